"""A class for each pixel -> one region for each connected piece of a class."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from micro.measure import means
from micro.regions import Regions

BAND_ROWS = 256


def of_classes(answer: NDArray[np.uint8], maps: NDArray[np.uint8], classes: Sequence[str], min_area_px: int) -> Regions:
    """Return the pieces of each class but the first, which is background, one class after the other.

    answer: (Y, X), the number of the class of each pixel. maps: (K, Y, X), whose mean over a piece is its score, 255
    for 1. Pieces hang together by sides of pixels; those smaller than min_area_px are background.
    """
    labels = np.zeros(answer.shape, np.int32)
    names: list[str] = []
    scores: list[NDArray[np.float64]] = []
    for number, name in enumerate(classes[1:], start=1):
        pieces = cv2.connectedComponents((answer == number).view(np.uint8), connectivity=4, ltype=cv2.CV_32S)[1]
        areas_px = np.zeros(int(pieces.max(initial=0)) + 1, np.int64)
        for rows in bands(answer.shape[0]):
            areas_px += np.bincount(pieces[rows].ravel(), minlength=len(areas_px))
        keep = areas_px >= min_area_px
        keep[0] = False
        numbers = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
        for rows in bands(answer.shape[0]):
            pieces[rows] = numbers[pieces[rows]]
        scores.append(means(pieces, maps[number]) / 255)
        for rows in bands(answer.shape[0]):
            labels[rows] += np.where(pieces[rows] > 0, pieces[rows] + len(names), 0).astype(np.int32)
        names += [name] * int(keep.sum())
    return Regions(labels, tuple(names), np.concatenate(scores).astype(np.float32))


def bands(height_px: int) -> Iterator[slice]:
    """Yield slices of some rows each, so that what is computed from them stays small."""
    for start in range(0, height_px, BAND_ROWS):
        yield slice(start, start + BAND_ROWS)
