"""The page of a specimen: its grain size, all that stands behind it, and a place to sign."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from micro import formats
from micro.errors import MicroError
from micro.formats.pixel_size import UNKNOWN
from micro.grain_size import Assessment, Distribution, Field, FieldCount, conclude, tally
from micro.grain_size.assessment import FieldFacts
from micro.grain_size.page import STANDARDS
from micro.line.reading import Look, Reader
from micro.line.sources import Source
from micro.micrograph import Micrograph
from micro.report import charts, page, plates
from micro.report.plates import Plate, Views
from micro.specimen import RECORD_NAME, Reading, grains_of
from micro.specimen.edits import Change

# Ten fields on a page of less than 5 MB, with room for outlines, dots and words; more fields get smaller pictures.
PICTURE_BYTES = 3_200_000
MOST_A_FIELD = 400_000
CELLS = 24
CURVE_POINTS = 200


@dataclass(frozen=True)
class Specimen:
    """The record that `micro measure` left in a folder."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def inputs(self) -> Sequence[Mapping[str, Any]]:
        """What each field was measured from."""
        inputs: Sequence[Mapping[str, Any]] = self.record["inputs"]
        return inputs

    def field(self, number: int) -> Field:
        """Read a field again, as it was measured; raise MicroError where its label file is another one now."""
        facts, source = self.record["fields"][number], self.inputs[number]
        path = self.folder / source["labels"]
        file = formats.read_label_file(path)
        if file.sha256 != source["labels_sha256"]:
            raise MicroError(f"{path}: has changed since it was measured. Measure the specimen again.")
        asked = self.record["reading"]
        reading = Reading(UNKNOWN, asked["boundary_value"], asked["min_area_px"])
        labels = grains_of(path, file.labels, reading)
        return Field(labels, facts["pixel_size_um"], facts["name"], facts["pixel_size_source"])

    def image(self, number: int) -> Micrograph | None:
        """Read the micrograph of a field; None where it is not known, gone, or another one now."""
        source = self.inputs[number]
        if source["address"] is None:
            return None
        address = Source(source["field"], source["address"])
        look = Look(address if address.is_remote else Source(source["field"], str(self.folder / source["address"])))
        try:
            image = Reader(settle_s=0).read(look)
        except MicroError:
            return None
        return image if look.sha256 == source["image_sha256"] else None


@dataclass(frozen=True)
class _FieldView:
    number: int
    facts: FieldFacts
    source: Mapping[str, Any]
    edits: Sequence[str]
    planimetric: FieldCount
    intercept: FieldCount | None
    views: Views
    has_image: bool


def write_specimen(folder: Path, file: Path, operator: str = "") -> None:
    """Write the page of a specimen that was measured, to be signed.

    The fields are read and counted again, for what was counted to be drawn. A page that lies elsewhere than the record
    of the specimen gets a copy of it, with the suffix .json.

    folder: where `micro measure` left its record. operator: who measured.

    Raises MicroError where there is no grain size, or what was measured is not there any more.
    """
    specimen = _read(folder)
    found = conclude([tally(specimen.field(number)) for number in range(len(specimen.inputs))], specimen.record["name"])
    figures = json.loads(json.dumps(found.record()))
    if any(specimen.record.get(key) != value for key, value in figures.items()):
        raise MicroError(
            f"{folder / RECORD_NAME}: micro {version('micro')} finds other figures than micro "
            f"{specimen.record['micro_version']} wrote there. Measure the specimen again."
        )
    record = {**specimen.record, "operator": operator}
    page.write(
        file,
        "specimen.html",
        {
            "title": f"{found.name}: grain size",
            "found": found,
            "standards": STANDARDS,
            "operator": operator,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "micro_version": version("micro"),
            "record": record,
            "left_out": record.get("left_out", {}),  # no key in records of before
            "makers": sorted({source["maker"] for source in specimen.inputs if source["maker"]}),
            "grains": sum(facts.grains for facts in found.fields),
            "whole": sum(facts.whole for facts in found.fields),
            "fields": _fields(found, specimen),
            "number_chart": _chart(found, 0, "share of the grains, %"),
            "area_chart": _chart(found, 2, "share of the area, %"),
        },
    )
    if file.parent.resolve() != folder.resolve():
        page.write_record(file.with_suffix(".json"), record)


def _read(folder: Path) -> Specimen:
    path = folder / RECORD_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise MicroError(f"{path}: cannot be read ({fault}). Name the --out of `micro measure`.") from fault
    if not isinstance(record, dict) or not {"name", "inputs", "reading", "micro_version"} <= record.keys():
        raise MicroError(f"{path}: is not the record of a specimen. Name the --out of `micro measure`.")
    if "refusal" in record:
        raise MicroError(f"{path}: holds no grain size. {record['refusal']}")
    return Specimen(folder, record)


def _fields(found: Assessment, specimen: Specimen) -> Iterator[_FieldView]:
    """Draw the fields, each as the page comes to it."""
    most_bytes = min(MOST_A_FIELD, PICTURE_BYTES // len(found.fields))
    by_area = found.counts[found.planimetric.method.key]
    by_lines = found.counts[found.intercept.method.key] if found.intercept else None
    for number, facts in enumerate(found.fields):
        source, image = specimen.inputs[number], specimen.image(number)
        intercept = by_lines[number] if by_lines else None
        plate = Plate(specimen.field(number).labels, image)
        views = plates.draw(plate, number + 1, by_area[number], intercept, most_bytes)
        yield _FieldView(
            number + 1, facts, source, list(_edits(source)), by_area[number], intercept, views, image is not None
        )


def _edits(source: Mapping[str, Any]) -> Iterator[str]:
    if source["change"] is not None:
        yield str(Change(**source["change"]))
    for said in source["corrections"]:
        yield f"by {said['author']}, {page.when(said['time'])}"


def _chart(found: Assessment, power: int, up: str) -> Markup | None:
    """Draw the share of each cell of diameter, each grain weighted by that power of it, and what the fit says."""
    sizes: Distribution | None = found.distribution
    if sizes is None:
        return None
    diameters_um = found.diameters_um
    low, high = float(diameters_um[0]) * 0.98, float(diameters_um[-1]) * 1.02
    edges = np.geomspace(low, high, CELLS + 1)
    weights = diameters_um**power
    shares = 100 * np.histogram(diameters_um, edges, weights=weights)[0] / weights.sum()

    def weighted(places_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the fitted density a unit of logarithm, weighted as the grains are."""
        return np.asarray(sizes.lognormal_density(places_um) * places_um ** (1 + power))

    places_um, everywhere_um = (
        np.geomspace(low, high, CURVE_POINTS),
        np.geomspace(low / 20, high * 20, 20 * CURVE_POINTS),
    )
    total = np.trapezoid(weighted(everywhere_um), np.log(everywhere_um))
    fitted = 100 * weighted(places_um) / total * np.log(edges[1] / edges[0])
    return charts.histogram(
        f"Equivalent circular diameter of {len(diameters_um)} grains, {up}, with the lognormal fit",
        charts.Axis("equivalent circular diameter, \N{MICRO SIGN}m", low, high, is_log=True),
        edges.tolist(),
        [charts.Series("found", "grains", shares.tolist())],
        up=up,
        curve=dict(zip(places_um.tolist(), fitted.tolist(), strict=True)),
    )
