import json
from dataclasses import replace

import numpy as np
import pytest
from tessellations import duplex, shaken_lattice, voronoi

from micro.errors import UnknownPixelSize
from micro.grain_size import Field, assess, cautions, combine, grains_between, intercept, paint, planimetric, section_of
from micro.grain_size.assessment import Assessment, conclude, tally
from micro.grain_size.count import Count, FieldCount, Pattern

NO_MARKS = Pattern(np.zeros((0, 2)), np.zeros(0))


def counted(method, *pairs: tuple[float, float]) -> list[FieldCount]:
    """Counts and extents in pixels, at 1 um a pixel."""
    return [FieldCount(str(at), Count(method, *pair, {}, NO_MARKS), 1.0) for at, pair in enumerate(pairs)]


def test_the_interval_of_five_fields_is_that_of_students_t():
    # 8, 9, 10, 11, 12 grains on 0.001 mm2 each
    found = combine(counted(planimetric.SALTIKOV, *((count, 1000.0) for count in (8.0, 9.0, 10.0, 11.0, 12.0))))
    assert (found.fields, found.count, found.mean) == (5, 50, pytest.approx(10000))
    assert found.standard_deviation == pytest.approx(np.sqrt(2.5) * 1000)
    assert found.ci95 == pytest.approx(2.776 * np.sqrt(2.5) * 1000 / np.sqrt(5), rel=1e-3)
    assert found.relative_accuracy_percent == pytest.approx(2.776 * np.sqrt(0.5) * 10, rel=1e-3)
    assert found.g == pytest.approx(3.321928 * 4 - 2.954, abs=1e-3)
    ends = [3.321928 * np.log10(found.mean + turn * found.ci95) - 2.954 for turn in (-1, 1)]
    assert [found.g_low, found.g_high] == pytest.approx(ends, abs=1e-3)


def test_the_interval_of_g_is_ordered_where_g_falls_as_the_value_rises():
    found = combine(counted(intercept.HEYN, (10.0, 100.0), (10.0, 120.0), (10.0, 140.0)))
    assert found.mean == pytest.approx(12)
    assert found.g_low < found.g < found.g_high


def test_fields_are_averaged_in_what_was_counted_and_not_in_g():
    found = combine(counted(planimetric.SALTIKOV, (1.0, 1000.0), (16.0, 1000.0)))
    assert found.mean == pytest.approx(8500)
    assert found.g == pytest.approx(3.321928 * np.log10(8500) - 2.954, abs=1e-3)
    mean_of_g = np.mean([3.321928 * np.log10(density) - 2.954 for density in (1000, 16000)])
    assert found.g - mean_of_g > 1


def test_one_field_has_no_interval_and_an_end_below_zero_has_no_g():
    one = combine(counted(planimetric.SALTIKOV, (5.0, 1000.0)))
    assert (one.ci95, one.g_low, one.g_high, one.relative_accuracy_percent) == (None, None, None, None)
    wide = combine(counted(planimetric.SALTIKOV, (1.0, 1000.0), (30.0, 1000.0)))
    assert wide.g_low is None
    assert wide.g_high is not None


@pytest.fixture(scope="module")
def specimen() -> tuple[list[Field], float, float]:
    """Five fields of about 550 grains, their true N_A (per mm2) and mean intercept (um)."""
    um = 0.5
    drawn = [voronoi(seed, 550, (760, 800)) for seed in range(5)]
    fields = [Field(each.labels, um, f"field {at}", "drawn") for at, each in enumerate(drawn)]
    per_mm2 = np.mean([each.grains_per_px2 for each in drawn]) / (um / 1e3) ** 2
    return fields, float(per_mm2), float(np.mean([each.mean_intercept_px for each in drawn]) * um)


@pytest.fixture(scope="module")
def found(specimen) -> Assessment:
    return assess(specimen[0])


def test_every_method_finds_the_true_g_of_drawn_polycrystals_within_0_05(specimen, found):
    _, per_mm2, intercept_um = specimen
    true_by_count = 3.321928 * np.log10(per_mm2) - 2.954
    true_by_lines = -6.643856 * np.log10(intercept_um / 1e3) - 3.288
    assert all(field.grains >= 500 for field in found.fields)
    truth = {key: true_by_lines if key.startswith("intercept") else true_by_count for key in found.sizes}
    assert len(truth) == 7
    assert {key: size.g for key, size in found.sizes.items()} == pytest.approx(truth, abs=0.05)
    assert {angle: size.g for angle, size in found.directions.items()} == pytest.approx(
        dict.fromkeys((0, 45, 90, 135), true_by_lines), abs=0.05
    )
    assert found.anisotropy == pytest.approx(1, abs=0.03)


def test_a_good_specimen_is_given_without_a_warning(found):
    assert found.warnings == ()


def test_the_record_holds_the_figures_of_the_page_as_json(specimen):
    found = assess(specimen[0][:2], "bolt 7")
    record = json.loads(json.dumps(found.record()))
    assert record["name"] == "bolt 7"
    assert record["sizes"]["planimetric_saltikov"]["g"] == found.planimetric.g
    assert len(record["counts"]["intercept_heyn"]) == 2
    assert record["counts"]["intercept_heyn"][0]["length_mm"] > 0
    page = found.describe()
    for expected in ("bolt 7: 2 fields", "E112-13", "ISO 643", f"{found.planimetric.g:.2f}", "%RA", "0.5 um (drawn)"):
        assert expected in page


def test_what_is_said_of_bricks_is_what_was_laid():
    # 10 x 10 bricks of 40 x 20 px; one speck inside a brick, and one at the frame
    first = np.kron(np.arange(1, 101).reshape(10, 10), np.ones((20, 40), np.int32))
    second = first.copy()
    first[30:33, 60:63], first[:3, 10:13] = 500, 501
    # a column that was not measured, and one grain in place of nine in a corner
    second[:, 360:], second[:60, :120] = -1, 999
    found = assess([Field(first, 0.5, "first"), Field(second, 0.5, "second")])
    facts = [(f.grains, f.whole, f.mean_area_px, f.unmeasured_share, f.specks) for f in found.fields]
    assert facts == [(102, 65, 80000 / 102, 0, 1), (82, 52, 72000 / 82, pytest.approx(0.1), 0)]
    assert found.planimetric.mean == pytest.approx(((65 + 33 / 2 + 1) / 0.02 + (52 + 28 / 2 + 2 / 4) / 0.018) / 2)
    assert found.iso643_g == pytest.approx(found.planimetric.g - 0.046, abs=5e-4)
    assert found.anisotropy == pytest.approx(2, rel=0.1)
    largest = found.largest
    assert (largest.field, largest.area_um2, largest.is_cut, largest.is_ala) == ("second", 1800, True, False)
    assert largest.coarser_by_g == pytest.approx(np.log2(found.planimetric.mean * 1800 / 1e6))
    size, page = found.planimetric, found.describe()
    for expected in (
        "184 grains, 117 of them whole",
        f"{size.g:.2f}  {size.g_low:.2f} to {size.g_high:.2f}",
        f"ISO 643 from the same count of grains (m = 8 x 2^G): G {found.iso643_g:.2f}",
        f"anisotropy index l(0)/l(90) {found.anisotropy:.3f}",
        f"1800 um2 or more, cut by the frame, G {largest.g:.2f}, in second; no ALA (E930)",
        "1 grains are specks below 20 px in first, and",
        "Up to 10% of the field belongs to no grain and was left out in second.",
    ):
        assert expected in page, expected


def test_half_the_pixel_size_is_two_g_finer(specimen):
    field = specimen[0][0]
    fine, coarse = (assess([Field(field.labels, um, "a")]) for um in (0.5, 1.0))
    for key, size in fine.sizes.items():
        assert size.g - coarse.sizes[key].g == pytest.approx(2)


def test_without_a_pixel_size_there_is_no_g_and_the_message_names_three_ways():
    with pytest.raises(UnknownPixelSize) as refusal:
        assess([Field(np.ones((50, 50), np.int32), None, "steel.png")])
    for expected in ("steel.png", "calibration", "--pixel-size-um", "--scale-bar 222px=50um"):
        assert expected in str(refusal.value)


def warned(*fields: np.ndarray) -> str:
    return "\n".join(assess([Field(labels, 1.0, f"f{at}") for at, labels in enumerate(fields)]).warnings)


def test_few_fields_and_few_grains_are_warned_of():
    found = assess([Field(voronoi(1, 30, (200, 200)).labels, 1.0, "f")])
    words = "\n".join(found.warnings)
    assert "Only 1 of at least 5 fields" in words
    assert "Fewer than 50 grains" in words
    by_circle = found.sizes["planimetric_jeffries"]
    without_one = by_circle.g + np.log2(1 - 1 / by_circle.count)
    assert f"(Li and Zhou 2011) G is {without_one:.2f} in place of {by_circle.g:.2f}" in words


def test_fields_that_differ_much_are_warned_of():
    fine, coarse = voronoi(1, 400, (400, 400)).labels, voronoi(2, 100, (400, 400)).labels
    assert "%RA is" in warned(fine, fine, coarse, coarse)


def test_elongated_grains_are_warned_of_and_equal_ones_are_not():
    for seed in range(3):
        labels = voronoi(seed, 250, (400, 400)).labels
        plain = warned(labels)
        assert "elongated" not in plain
        assert "and counting intercepts" not in plain
        assert "elongated: the mean intercept at 0 degrees" in warned(np.repeat(labels, 2, axis=1))
    # lines of four directions meet more boundaries than as many round grains have
    assert "and counting intercepts" in warned(np.repeat(labels[:120], 6, axis=1))


def test_two_populations_are_warned_of():
    assert "E1181" in warned(duplex(2, shaken_lattice(3, 12, 60, 60), 96))


def test_an_outlier_grain_is_reported_as_ala():
    labels = shaken_lattice(3, 12, 80, 80).astype(np.int64)
    rows, columns = np.mgrid[: labels.shape[0], : labels.shape[1]]
    radius = 60.0
    labels[np.hypot(rows - 480, columns - 480) < radius] = labels.max() + 1
    found = assess([Field(labels, 1.0, "f")])
    assert found.largest.is_ala
    assert found.largest.area_um2 == pytest.approx(np.pi * radius**2, rel=0.02)
    assert found.largest.g == pytest.approx(-3.3223 * np.log10(np.pi * radius**2 / 1e6) - 2.955, abs=0.05)
    assert found.largest.area_share == pytest.approx(np.pi * radius**2 / labels.size, rel=0.02)
    assert any(f"{found.largest.coarser_by_g:.1f} coarser than the rest" in warning for warning in found.warnings)
    assert not assess([Field(shaken_lattice(3, 12, 40, 40), 1.0, "f")]).largest.is_ala


def test_an_outlier_is_eight_mean_areas_and_with_its_like_a_twentieth_of_all():
    one = tally(Field(voronoi(1, 60, (200, 200)).labels, 1.0, "f"))
    mean_um2 = 1e6 / conclude([one]).planimetric.mean

    def is_ala(times: float) -> bool:
        area_um2 = np.append(np.full(400, 1.0), times) * mean_um2
        return conclude([replace(one, area_um2=area_um2, is_cut=np.zeros(401, bool))]).largest.is_ala

    assert [is_ala(times) for times in (7.9, 8.1, 21.0, 21.1)] == [False, True, True, False]


def test_each_caution_is_said_from_its_limit_on_and_names_the_fields(found):
    sizes, rows = found.sizes, found.counts

    def facts(**values: tuple[float, ...]) -> str:
        several = [dict(zip(values, column, strict=True)) for column in zip(*values.values(), strict=True)]
        each = tuple(replace(one, **changed) for one, changed in zip(found.fields, several, strict=True))
        return "\n".join(cautions.of(replace(found, fields=each)))

    def counts(key: str, *of_field: float) -> str:
        row = tuple(
            replace(one, counted=replace(one.counted, count=count))
            for one, count in zip(rows[key], of_field, strict=True)
        )
        return "\n".join(cautions.of(replace(found, counts=rows | {key: row})))

    def percent(key: str, value: float) -> str:
        size = replace(sizes[key], ci95=sizes[key].mean * value / 100)
        return "\n".join(cautions.of(replace(found, sizes=sizes | {key: size})))

    def stretched(value: float, grains: int) -> str:
        directions = found.directions | {90: replace(found.directions[90], mean=100.0)}
        directions |= {angle: replace(found.directions[angle], mean=100 * value) for angle in (0, 45, 135)}
        each = tuple(replace(one, grains=grains // 5) for one in found.fields)
        return "\n".join(cautions.of(replace(found, fields=each, directions=directions)))

    assert facts(mean_area_px=(250, 251, 252, 253, 254)) == ""
    assert "only 190 px on average in field 0, field 2;" in facts(mean_area_px=(249, 250, 190, 250, 250))
    assert facts(unmeasured_share=(0.01,) * 5) == ""
    assert "Up to 20% of the field" in facts(unmeasured_share=(0.011, 0.2, 0, 0, 0))
    assert "5 grains are specks below 20 px in field 0, field 4," in facts(specks=(2, 0, 0, 0, 3))
    for key, title in (("planimetric_saltikov", "rectangle (Saltikov)"), ("planimetric_jeffries", "circle (Jeffries)")):
        assert "Fewer than 50 grains" not in counts(key, 50, 300, 300, 300, 300)
        said = counts(key, 49.5, 300, 48.25, 300, 300)
        assert f"grains counted (48.25) by planimetric, {title} in field 0, field 2 (E112-13, 11)." in said
    assert counts("intercept_heyn", 50, 300, 300, 300, 300) == ""
    assert "Fewer than 50 intercepts in field 1 (E112-13, 13)." in counts("intercept_heyn", 300, 49, 300, 300, 300)
    assert "Fewer than 100 grains counted in a circle" in counts("planimetric_jeffries", 99, 300, 300, 300, 300)
    assert counts("planimetric_jeffries", *[100] * 5) == ""
    for key in ("planimetric_saltikov", "intercept_heyn"):
        assert percent(key, 10.0) == ""
        assert f"%RA is 10.1 by {sizes[key].method.title}, above 10: " in percent(key, 10.1)
    # equal grains differ by chance: 3 standard deviations of 2500 are 6 %, of 400 they are 16 %
    assert stretched(1.09, 2500) == stretched(1.16, 400) == ""
    assert "at 0 degrees is 1.11 times that at 90 degrees" in stretched(1.11, 2500)
    assert "at 0 degrees is 1.17 times that at 90 degrees" in stretched(1.17, 400)


def test_grains_of_a_few_pixels_and_specks_are_warned_of():
    tiny = warned(shaken_lattice(4, 8, 40, 40))
    assert "px on average" in tiny
    speck = voronoi(1, 100, (300, 300)).labels.copy()
    speck[150:153, 150:153] = 999
    assert "1 grains are specks below 20 px" in warned(speck)


def test_a_field_without_a_boundary_gives_no_intercept_and_says_so():
    found = assess([Field(np.ones((60, 60), np.int32), 1.0, "bare")])
    assert found.intercept is None
    assert any("Nothing could be counted by intercept" in warning and "bare" in warning for warning in found.warnings)
    assert "Fewer than 50 intercepts in bare (E112-13, 13)." in found.warnings


def test_a_field_of_which_only_a_corner_or_a_few_pixels_were_measured_is_assessed_by_what_is_there():
    corner = np.zeros((100, 400), np.int32)
    corner[:40, :40] = voronoi(1, 20, (40, 40)).labels
    found = assess([Field(voronoi(1, 60, (100, 400)).labels, 1.0, "whole"), Field(corner, 1.0, "corner")])
    assert "planimetric_jeffries" not in found.sizes
    assert any("circle (Jeffries) in corner" in warning and "whole" not in warning for warning in found.warnings)
    island = np.zeros((100, 100), np.int32)
    island[50:52, 50:53] = [[1, 2, 2], [1, 1, 2]]
    found = assess([Field(island, 1.0, "island")])
    assert found.sizes["planimetric_saltikov"].mean == pytest.approx(1 / 6e-6)
    # a line that has boundaries at both ends and nothing in between has hits and no length
    bare = [key for key, row in found.counts.items() if row[0].counted.count > 0 and not row[0].is_counted]
    assert bare
    for key in bare:
        assert found.record()["counts"][key][0]["g"] is None
        assert any(found.counts[key][0].method.title in warning for warning in found.warnings)


def test_the_pattern_is_drawn_where_it_was_counted():
    labels = voronoi(5, 60, (200, 220)).labels
    count = intercept.heyn_at(section_of(labels), 0)
    picture = paint(np.full(labels.shape, 100, np.uint8), count.pattern)
    assert picture.shape == (200, 220, 3)
    y, x = np.rint(count.pattern.marks_px[0]).astype(int)
    assert tuple(picture[y, x]) == (60, 230, 60)
    assert (picture[round(count.pattern.lines_px[0, 0]), :, 2] > 200).mean() > 0.5


@pytest.mark.data
def test_the_grains_of_an_etched_steel_give_the_published_numbers(data):
    import tifffile

    folder = data / "grains" / "nist-gsat-steel"
    mask = tifffile.imread(folder / "grains_steel_highlighted_segmented.tif") > 0
    found = assess([Field(grains_between(mask), 50 / 222, "steel")])
    assert found.fields[0].grains == 226
    assert found.planimetric.g == pytest.approx(10.03, abs=0.05)
    assert found.intercept is not None
    # theirs counts each thick boundary as one hit, and so misses grains that lie between two of them
    assert found.intercept.g == pytest.approx(10.11, abs=0.15)
    # chords from boundary to boundary leave out the boundary itself and what the frame cuts
    chords_um = np.loadtxt(folder / "grains_steel_highlighted_distances_line_grid.csv", delimiter=",", skiprows=1)[:, 1]
    chords_g = -6.643856 * np.log10(chords_um.mean() * 50 / 222 / 1e3) - 3.288
    assert chords_g == pytest.approx(10.51, abs=0.005)
    assert 0.2 <= chords_g - found.intercept.g <= 0.4
    whole = _chords_px(mask)
    assert whole.mean() == pytest.approx(chords_um.mean(), rel=0.05)


def _chords_px(mask: np.ndarray) -> np.ndarray:
    """Return the lengths of grain between two boundaries along all rows and columns."""
    lengths = []
    for wall in (mask, mask.T):
        edges = np.diff(wall.astype(np.int8), axis=1)
        for row in edges:
            leaves, enters = np.flatnonzero(row == -1), np.flatnonzero(row == 1)
            if len(leaves):
                enters = enters[enters > leaves[0]]
                lengths.append(enters - leaves[: len(enters)])
    return np.concatenate(lengths)


@pytest.mark.data
@pytest.mark.parametrize(
    ("field", "inside", "per_mm2", "intercept_g", "mean_area_g"),
    [(1, 54, 1304.3, 7.482, 7.649), (3, 77, 1795.8, 7.802, 8.107)],
)
def test_synthetic_fields_of_one_population_give_the_published_counts(
    data, field, inside, per_mm2, intercept_g, mean_area_g
):
    path = data / "grains" / "payton-fields" / f"Example_Data{field}.ctf"
    rows = [line.split() for line in path.read_text(encoding="latin-1").splitlines()]
    first = next(at for at, row in enumerate(rows) if row[:3] == ["Phase", "X", "Y"]) + 1
    angles = np.array([row[5:8] for row in rows[first:]], float)
    labels = _parts(np.unique(angles, axis=0, return_inverse=True)[1].reshape(230, 230))
    found = assess([Field(labels, 1.0, path.name)])
    count = found.counts["planimetric_saltikov"][0]
    assert count.counted.parts["inside"] == inside
    assert count.value == pytest.approx(per_mm2, abs=0.05)
    assert found.sizes["mean_area"].g == pytest.approx(mean_area_g, abs=0.002)
    assert found.intercept.g == pytest.approx(intercept_g, abs=0.02)


def _parts(values: np.ndarray) -> np.ndarray:
    """Return one label for each part (Y, X) of equal values that hang together."""
    from skimage.measure import label

    return label(values, background=-1, connectivity=1)
