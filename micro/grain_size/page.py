"""An assessment as words to print and as plain values to keep."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from micro.grain_size.count import INTERCEPT, FieldCount, Method
from micro.grain_size.statistics import SpecimenSize

if TYPE_CHECKING:
    from micro.grain_size.assessment import Assessment

STANDARDS = "ASTM E112-13, E1382-97, E2627, E930; ISO 643 where it says so"


def text(found: "Assessment") -> str:
    """Return the figures of a specimen as lines of text."""
    grains, whole = sum(field.grains for field in found.fields), sum(field.whole for field in found.fields)
    lines = [
        f"{found.name}: {_fields(len(found.fields))}, {grains} grains, {whole} of them whole",
        *_scales(found),
        f"Grain size number G ({STANDARDS})",
        f"  {'method':40} {'counted':>9} {'mean':>12} {'s':>9} {'95 % CI':>9} {'%RA':>6} {'G':>6}  95 % CI of G",
        *(_size_line(size) for size in found.sizes.values()),
        f"  ISO 643 from the same count of grains (m = 8 x 2^G): G {found.iso643_g:.2f}",
    ]
    if found.anisotropy is not None:
        each = ", ".join(f"{angle} deg {size.mean:.3g} um" for angle, size in found.directions.items())
        lines.append(f"Mean intercept by direction: {each}; anisotropy index l(0)/l(90) {found.anisotropy:.3f}")
    lines += _distribution_lines(found)
    largest = found.largest
    lines.append(
        f"Largest grain: {largest.area_um2:.4g} um2{' or more, cut by the frame' if largest.is_cut else ''}, "
        f"G {largest.g:.2f}, in {largest.field}; {'ALA' if largest.is_ala else 'no ALA'} (E930)"
    )
    notes = [f"{size.method.title}: {size.method.caution}." for size in found.sizes.values() if size.method.caution]
    lines += [f"Note: {note}" for note in notes]
    lines += [f"Warning: {warning}" for warning in found.warnings]
    return "\n".join(lines)


def record(found: "Assessment") -> dict[str, Any]:
    """Return an assessment as plain values; lengths and areas carry their unit in their name."""
    return {
        "name": found.name,
        "standards": STANDARDS,
        "fields": [asdict(field) for field in found.fields],
        "sizes": {key: _size_record(size) for key, size in found.sizes.items()},
        "iso643_g": found.iso643_g,
        "counts": {key: [_count_record(count) for count in row] for key, row in found.counts.items()},
        "directions": {f"{angle}_deg": _size_record(size) for angle, size in found.directions.items()},
        "anisotropy_index": found.anisotropy,
        "distribution": None if found.distribution is None else asdict(found.distribution),
        "largest_grain": asdict(found.largest),
        "warnings": list(found.warnings),
    }


def _fields(count: int) -> str:
    return "1 field" if count == 1 else f"{count} fields"


def _scales(found: "Assessment") -> list[str]:
    """Return one line a pixel size, with its origin."""
    scales = {(field.pixel_size_um, field.pixel_size_source or "origin not stated") for field in found.fields}
    return [f"Pixel size {um:.6g} um ({source})" for um, source in sorted(scales)]


def _size_line(size: SpecimenSize) -> str:
    quantity = size.method.quantity
    spread = "" if size.standard_deviation is None else f"{size.standard_deviation:.4g}"
    half = "" if size.ci95 is None else f"{size.ci95:.4g}"
    accuracy = "" if size.relative_accuracy_percent is None else f"{size.relative_accuracy_percent:.1f}"
    ends = "one field only" if size.ci95 is None else " to ".join(_g(end) for end in (size.g_low, size.g_high))
    mean = f"{size.mean:.4g} {quantity.unit}"
    figures = f"{size.count:9.1f} {mean:>12} {spread:>9} {half:>9} {accuracy:>6} {size.g:6.2f}"
    return f"  {size.method.title:40} {figures}  {ends}"


def _g(end: float | None) -> str:
    return "unbounded" if end is None else f"{end:.2f}"


def _distribution_lines(found: "Assessment") -> list[str]:
    sizes = found.distribution
    if sizes is None:
        return ["Diameters: too few whole grains for a distribution"]
    fits = "nothing speaks against it" if sizes.is_lognormal else "not lognormal at 5 %"
    percentiles = ", ".join(f"{percent} % {value:.3g}" for percent, value in sizes.percentiles_um.items())
    return [
        f"Equivalent circular diameter of {sizes.grains} whole grains, um:",
        f"  mean {sizes.mean_um:.4g} +- {sizes.mean_ci95_um:.2g}, s {sizes.standard_deviation_um:.4g}; "
        f"median {sizes.median_um:.4g}; mode {sizes.mode_um:.4g}",
        f"  lognormal fit: geometric mean {sizes.geometric_mean_um:.4g}, multiplicative standard deviation "
        f"{sizes.multiplicative_standard_deviation:.3f}, KS {sizes.ks_statistic:.3f} "
        f"(allowed {sizes.ks_critical:.3f}: {fits})",
        f"  percentiles: {percentiles}",
        f"  weighted by area: mean {sizes.area_weighted_mean_um:.4g}, median {sizes.area_weighted_median_um:.4g}",
    ]


def _size_record(size: SpecimenSize) -> dict[str, Any]:
    return {
        **_method_record(size.method),
        "fields": size.fields,
        "count": size.count,
        "mean": size.mean,
        "standard_deviation": size.standard_deviation,
        "ci95": size.ci95,
        "relative_accuracy_percent": size.relative_accuracy_percent,
        "g": size.g,
        "g_low": size.g_low,
        "g_high": size.g_high,
    }


def _count_record(count: FieldCount) -> dict[str, Any]:
    extent = {INTERCEPT.name: "length_mm"}.get(count.method.quantity.name, "area_mm2")
    return {
        "field": count.field,
        "count": count.counted.count,
        **count.counted.parts,
        extent: count.extent,
        count.method.quantity.name: count.value if count.is_counted else None,
        "g": count.g if count.is_counted else None,
    }


def _method_record(method: Method) -> dict[str, Any]:
    return {"title": method.title, "clause": method.clause, "quantity": method.quantity.name}
