"""What belongs beside a grain size before anyone signs it."""

from collections.abc import Iterator
from math import exp, sqrt
from typing import TYPE_CHECKING

from micro.grain_size import intercept, planimetric

if TYPE_CHECKING:
    from micro.grain_size.assessment import Assessment, FieldFacts

FEWEST_FIELDS = 5
FEWEST_GRAINS = 50
FEWEST_INTERCEPTS = 50
ACCEPTED_PERCENT = 10.0
SMALLEST_MEAN_PX = 250
"""Measured on drawn fields: lines read G 0.04 too coarse at 250 px a grain, 0.08 at 100, 0.15 at 36, since they step
over corners of grains between pixels."""

LEAST_STRETCH = 1.1
CHANCE_STRETCH = 3.0
"""Directions of equal grains differ by chance; so many standard deviations of that are none."""

FAR_APART_G = 0.5
"""How far two laboratories may be apart on one specimen (E112-13, scope)."""
MOST_UNMEASURED = 0.01
SMALL_COUNT = 100


def of(found: "Assessment") -> tuple[str, ...]:
    """Return a sentence for each thing that a reader of these figures has to know."""
    return tuple(
        sentence
        for about in (_of_fields, _of_counts, _of_accuracy, _of_methods, _of_shape, _of_population)
        for sentence in about(found)
    )


def _of_fields(found: "Assessment") -> Iterator[str]:
    if len(found.fields) < FEWEST_FIELDS:
        yield (
            f"Only {len(found.fields)} of at least {FEWEST_FIELDS} fields: the confidence interval is wide or missing "
            f"(E112-13, 15; E1382-97)."
        )
    small = [field for field in found.fields if field.mean_area_px < SMALLEST_MEAN_PX]
    if small:
        yield (
            f"A grain has only {min(field.mean_area_px for field in small):.0f} px on average in {_names(small)}; "
            f"with fewer than {SMALLEST_MEAN_PX} px lines read G 0.04 or more too coarse. Magnify more."
        )
    holes = [field for field in found.fields if field.unmeasured_share > MOST_UNMEASURED]
    if holes:
        worst = max(field.unmeasured_share for field in holes)
        yield f"Up to {worst:.0%} of the field belongs to no grain and was left out in {_names(holes)}."
    specked = [field for field in found.fields if field.specks]
    if specked:
        yield (
            f"{sum(field.specks for field in specked)} grains are specks below 20 px in {_names(specked)}, and each "
            f"counts as a grain. If they are slips of a brush, give them to their neighbours (--min-area-px 20)."
        )


def _of_counts(found: "Assessment") -> Iterator[str]:
    for key in (planimetric.SALTIKOV.key, planimetric.JEFFRIES.key):
        few = [count for count in found.counts[key] if count.counted.count < FEWEST_GRAINS]
        if few:
            least = min(count.counted.count for count in few)
            yield (
                f"Fewer than {FEWEST_GRAINS} grains counted ({least:g}) by {few[0].method.title} in "
                f"{', '.join(count.field for count in few)} (E112-13, 11)."
            )
    few = [count for count in found.counts[intercept.HEYN.key] if count.counted.count < FEWEST_INTERCEPTS]
    if few:
        yield f"Fewer than {FEWEST_INTERCEPTS} intercepts in {', '.join(count.field for count in few)} (E112-13, 13)."
    yield from _of_small_circles(found)


def _of_small_circles(found: "Assessment") -> Iterator[str]:
    """Say what the circle's rule adds where grains are few; see `planimetric.unbiased`."""
    size = found.sizes.get(planimetric.JEFFRIES.key)
    if size is None:  # in one field at least nothing was measured in the circle
        return
    row = found.counts[planimetric.JEFFRIES.key]
    densities = [planimetric.unbiased(count.counted) / count.extent for count in row]
    mean = sum(densities) / len(densities)
    if mean > 0 and min(count.counted.count for count in row) < SMALL_COUNT:
        yield (
            f"Fewer than {SMALL_COUNT} grains counted in a circle; without the one that the rule counts too many (Li "
            f"and Zhou 2011) G is {planimetric.JEFFRIES.quantity.to_g(mean):.2f} in place of "
            f"{size.g:.2f}."
        )


def _of_accuracy(found: "Assessment") -> Iterator[str]:
    for size in (found.planimetric, found.intercept):
        if size is not None and (size.relative_accuracy_percent or 0) > ACCEPTED_PERCENT:
            yield (
                f"%RA is {size.relative_accuracy_percent:.1f} by {size.method.title}, above "
                f"{ACCEPTED_PERCENT:.0f}: measure more fields (E112-13, 15)."
            )


def _of_methods(found: "Assessment") -> Iterator[str]:
    counted = {size.method.key for size in (*found.sizes.values(), *found.directions.values())}
    for key, row in found.counts.items():
        if key not in counted:
            empty = ", ".join(count.field for count in row if not count.is_counted)
            yield f"Nothing could be counted by {row[0].method.title} in {empty}; no grain size by this method."
    by_lines = found.intercept
    if by_lines is not None and abs(found.planimetric.g - by_lines.g) > FAR_APART_G:
        yield (
            f"Counting grains gives G {found.planimetric.g:.2f} and counting intercepts {by_lines.g:.2f}; grains that "
            f"differ much in size or shape, or broken boundaries, part the two."
        )


def _of_shape(found: "Assessment") -> Iterator[str]:
    means = {angle: size.mean for angle, size in found.directions.items()}
    if len(means) < 2:
        return
    grains = sum(field.grains for field in found.fields)
    by_chance = exp(CHANCE_STRETCH / sqrt(grains))
    longest, shortest = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    stretch = means[longest] / means[shortest]
    if stretch > max(LEAST_STRETCH, by_chance):
        yield (
            f"Grains are elongated: the mean intercept at {longest} degrees is {stretch:.2f} times that at {shortest} "
            f"degrees. One section does not give the grain size of such a specimen (E112-13, 16)."
        )


def _of_population(found: "Assessment") -> Iterator[str]:
    mixture = found.distribution.mixture if found.distribution else None
    if mixture is not None:
        fine, coarse = mixture.geometric_means_um
        yield (
            f"Two populations of grains, about {fine:.1f} um and {coarse:.1f} um, of which the coarse one holds "
            f"{mixture.coarse_area_share:.0%} of the area: E112 is for one population, see E1181 (duplex grain sizes)."
        )
    if found.largest.is_ala:
        yield (
            f"Outlier grains: the largest, in {found.largest.field}, is G {found.largest.g:.1f}, "
            f"{found.largest.coarser_by_g:.1f} coarser than the rest; report it as ALA (E930)."
        )


def _names(fields: "list[FieldFacts]") -> str:
    return ", ".join(field.name for field in fields)
