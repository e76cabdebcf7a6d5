"""Everything that the fields of one specimen say about its grain size."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micro.errors import UnknownPixelSize
from micro.grain_size import cautions, conversions, intercept, page, planimetric
from micro.grain_size.count import Count, FieldCount
from micro.grain_size.distribution import Distribution, describe_diameters
from micro.grain_size.section import Section, section_of
from micro.grain_size.statistics import SpecimenSize, combine
from micro.micrograph import WAYS_TO_GIVE_PIXEL_SIZE

SPECK_PX = 20
ALA_COARSER_G = 3.0
ALA_AREA_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class Field:
    """One field of view whose grains are known.

    labels: (Y, X) whole numbers, one a grain; grains touch, or lines of 0 part them.
    pixel_size_um: None is refused by `assess`: without a length there is no grain size.
    name: what to call the field on the page.
    """

    labels: NDArray[np.integer]
    pixel_size_um: float | None
    name: str
    pixel_size_source: str | None = None


@dataclass(frozen=True)
class FieldFacts:
    """What is to be known of a field beside its counts.

    whole: grains that the frame does not cut.
    unmeasured_share: part of the field that belongs to no grain.
    specks: whole grains smaller than SPECK_PX pixels.
    """

    name: str
    pixel_size_um: float
    pixel_size_source: str | None
    height_px: int
    width_px: int
    grains: int
    whole: int
    mean_area_px: float
    unmeasured_share: float
    specks: int


@dataclass(frozen=True, eq=False)
class Tally:
    """Everything that was counted on one field; small, where the labels are not.

    counts: one a method.
    area_um2, is_cut: (N,) each, of the grains; see Section.
    """

    facts: FieldFacts
    counts: tuple[FieldCount, ...]
    area_um2: NDArray[np.float64]
    is_cut: NDArray[np.bool_]


@dataclass(frozen=True)
class Outlier:
    """The largest grain beside the others (ASTM E930, ALA: as large as).

    is_ala: at least 3 G coarser than the specimen, and all such grains together no more than 5 % of the area.
    is_cut: the frame cuts it, so that it is at least so large.
    """

    field: str
    area_um2: float
    g: float
    coarser_by_g: float
    area_share: float
    is_cut: bool
    is_ala: bool


@dataclass(frozen=True, eq=False)
class Assessment:
    """The grain size of one specimen, with all that stands behind it.

    sizes: one a method that could be counted on every field, by the key of the method.
    counts: every method on every field, with its test pattern, by the key of the method; lines of each direction too.
    directions: as sizes, by the angle of the lines: 0, 45, 90 and 135 degrees.
    anisotropy: l(0) / l(90) of these (E112-13, 16): above 1 grains are longer along the x axis.
    diameters_um: (N,) equivalent circular diameters of all whole grains of all fields, ascending.
    warnings: sentences that belong beside the figures.
    """

    name: str
    fields: tuple[FieldFacts, ...]
    sizes: dict[str, SpecimenSize]
    counts: dict[str, tuple[FieldCount, ...]]
    directions: dict[int, SpecimenSize]
    anisotropy: float | None
    diameters_um: NDArray[np.float64]
    distribution: Distribution | None
    largest: Outlier
    iso643_g: float
    warnings: tuple[str, ...]

    @property
    def planimetric(self) -> SpecimenSize:
        """Grain size by counting grains on whole fields (Saltikov)."""
        return self.sizes[planimetric.SALTIKOV.key]

    @property
    def intercept(self) -> SpecimenSize | None:
        """Grain size by lines in four directions (Heyn); None where a field has no boundary on any line."""
        return self.sizes.get(intercept.HEYN.key)

    def describe(self) -> str:
        """Return a page to print."""
        return page.text(self)

    def record(self) -> dict[str, Any]:
        """Return everything but the places of marks, as plain values for JSON."""
        return page.record(self)


def assess(fields: Iterable[Field], name: str = "specimen") -> Assessment:
    """Count grains on the fields of one specimen by every method, and combine the fields.

    Fields are read one after the other; what is kept of each is its counts and patterns, not its labels.

    Raises UnknownPixelSize when the pixel size of a field is not known, UnreadableImage when a field has no grain, and
    ValueError without a field.
    """
    return conclude([tally(each) for each in fields], name)


def tally(field: Field) -> Tally:
    """Count grains on one field by every method; raises what `assess` raises of a field."""
    um = _known_pixel_size_um(field)
    ready = section_of(field.labels)
    counts = tuple(FieldCount(field.name, count, um) for count in _counts(ready))
    return Tally(_facts(field, ready, um), counts, np.asarray(ready.area_px * um**2, np.float64), ready.is_cut)


def conclude(tallies: Sequence[Tally], name: str = "specimen") -> Assessment:
    """Combine what was counted on the fields of one specimen; ValueError without a field."""
    if not tallies:
        raise ValueError("a specimen has at least one field")
    by_method = {row[0].method.key: tuple(row) for row in zip(*(each.counts for each in tallies), strict=True)}
    sizes = {key: combine(row) for key, row in by_method.items() if all(each.is_counted for each in row)}
    directions = {angle: sizes.pop(method.key) for angle, method in intercept.HEYN_AT.items() if method.key in sizes}
    whole_um2 = np.concatenate([each.area_um2[~each.is_cut] for each in tallies])
    diameters_um = np.sort(np.sqrt(4 / np.pi * whole_um2))
    by_count = sizes[planimetric.SALTIKOV.key]
    bare = Assessment(
        name=name,
        fields=tuple(each.facts for each in tallies),
        sizes=sizes,
        counts=by_method,
        directions=directions,
        anisotropy=directions[0].mean / directions[90].mean if {0, 90} <= directions.keys() else None,
        diameters_um=diameters_um,
        distribution=describe_diameters(diameters_um),
        largest=_largest(tallies, by_count.g),
        iso643_g=conversions.iso643_g_of_grains_per_mm2(by_count.mean),
        warnings=(),
    )
    return replace(bare, warnings=cautions.of(bare))


def _known_pixel_size_um(field: Field) -> float:
    um = field.pixel_size_um
    if um is None:
        raise UnknownPixelSize(f"{field.name}: no pixel size, and so no grain size. {WAYS_TO_GIVE_PIXEL_SIZE}")
    if not (np.isfinite(um) and um > 0):
        raise UnknownPixelSize(f"{field.name}: a pixel size of {um} um is impossible.")
    return float(um)


def _facts(field: Field, ready: Section, um: float) -> FieldFacts:
    height, width = field.labels.shape
    return FieldFacts(
        name=field.name,
        pixel_size_um=um,
        pixel_size_source=field.pixel_size_source,
        height_px=height,
        width_px=width,
        grains=len(ready),
        whole=int((~ready.is_cut).sum()),
        mean_area_px=ready.measured_px / len(ready),
        unmeasured_share=1 - ready.measured_px / ready.labels.size,
        specks=int(((ready.own_px < SPECK_PX) & ~ready.is_cut).sum()),
    )


def _counts(ready: Section) -> list[Count]:
    """Return what every method counts on a field."""
    directed = [intercept.heyn_at(ready, angle) for angle in intercept.ANGLES_DEG]
    return [
        planimetric.saltikov(ready),
        planimetric.jeffries(ready),
        planimetric.triple_points(ready),
        planimetric.mean_area(ready),
        intercept.pooled(intercept.HEYN, directed),
        intercept.hilliard(ready),
        intercept.abrams(ready),
        *directed,
    ]


def _largest(tallies: Sequence[Tally], mean_g: float) -> Outlier:
    """Return the largest grain of all fields; see Outlier."""
    first = max(tallies, key=lambda each: float(each.area_um2.max()))
    grain = int(first.area_um2.argmax())
    area_um2 = float(first.area_um2[grain])
    g = conversions.g_of_mean_area_um2(area_um2)
    pooled = np.concatenate([each.area_um2 for each in tallies])
    limit_um2 = conversions.mean_area_um2(mean_g - ALA_COARSER_G)
    share = float(pooled[pooled >= limit_um2].sum() / pooled.sum())
    return Outlier(
        field=first.facts.name,
        area_um2=area_um2,
        g=g,
        coarser_by_g=mean_g - g,
        area_share=share,
        is_cut=bool(first.is_cut[grain]),
        is_ala=0 < share <= ALA_AREA_SHARE,
    )
