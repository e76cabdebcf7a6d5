"""Where an answer is wrong: the worst part of an image, with what was drawn and what was found laid over it."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from micro.report import pictures
from micro.report.pictures import DRAWN, FOUND, Shown
from micro.score import regions
from micro.tasks import Annotation
from micro.trial import Case

EDGE_PX = 360
UNKNOWN = (0, 0, 0)


@dataclass(frozen=True, eq=False)
class Failure:
    """The worst part of an image, as it is and with the answer laid over it (None where a class is the answer).

    rows, columns: which part of the image it is.
    """

    plain: Shown
    overlay: Shown | None
    rows: slice
    columns: slice


@dataclass(frozen=True, eq=False)
class _Wrong:
    """Where (Y, X) an answer is wrong: found and not there, or there and not found."""

    false: NDArray[np.bool_]
    missed: NDArray[np.bool_]


def failure(case: Case, annotation: Annotation) -> Failure:
    """Return the part of EDGE_PX an edge where most pixels are wrong; small images are shown larger.

    Found regions without a partner, and pixels of a wrong class, are tinted like what was found; true regions that
    nobody found are tinted like what was drawn. Where nothing is known the picture is dark.
    """
    shape_px = (case.image.height_px, case.image.width_px)
    if case.truth is None or case.found is None:
        return Failure(pictures.enlarged(case.image, EDGE_PX), None, slice(0, shape_px[0]), slice(0, shape_px[1]))
    wrong = _wrong(case.truth, case.found, annotation)
    rows, columns = _window(wrong.false | wrong.missed, case.truth >= 0)
    truth, found = (np.ascontiguousarray(each[rows, columns], np.int32) for each in (case.truth, case.found))
    plain = pictures.enlarged(replace(case.image, pixels=case.image.pixels[rows, columns]), EDGE_PX)
    overlay = pictures.tinted(plain, truth < 0, UNKNOWN)
    overlay = pictures.tinted(overlay, wrong.missed[rows, columns], DRAWN)
    overlay = pictures.tinted(overlay, wrong.false[rows, columns], FOUND)
    overlay = pictures.outlined(pictures.outlined(overlay, truth, DRAWN), found, FOUND)
    return Failure(plain, overlay, rows, columns)


def _wrong(truth: NDArray[np.integer], found: NDArray[np.integer], annotation: Annotation) -> _Wrong:
    if annotation == "classes":
        return _Wrong((truth >= 0) & (truth != found), np.zeros(truth.shape, bool))
    counted = regions.mostly_known(found, truth)
    together = regions.pairs(regions.overlap(truth, counted))
    return _Wrong((counted > 0) & ~np.isin(counted, together.found), (truth > 0) & ~np.isin(truth, together.truth))


def _window(wrong: NDArray[np.bool_], known: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the window with the most wrong pixels, or the middle of what is known where none is wrong."""
    height, width = wrong.shape
    tall, wide = min(EDGE_PX, height), min(EDGE_PX, width)
    looked_for = wrong if wrong.any() else known
    if looked_for.all():
        top, left = (height - tall) // 2, (width - wide) // 2
    else:
        sums = np.pad(looked_for.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        inside = sums[tall:, wide:] - sums[:-tall, wide:] - sums[tall:, :-wide] + sums[:-tall, :-wide]
        top, left = (int(place) for place in np.unravel_index(inside.argmax(), inside.shape))
    return slice(top, top + tall), slice(left, left + wide)
