"""How brightness varies over an image when the specimen does not, and how pixels are scaled because of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Scaling:
    """The numbers, found once an image, that turn its pixels into what a network reads: (pixels - center) / spread.

    center, spread: (C, gy, gx) float32 grids spanned over the whole image, pixel centre to pixel centre, and
    interpolated bilinearly; 1 x 1 where one number serves the image. spread is positive.
    """

    center: NDArray[np.float32]
    spread: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.center.shape != self.spread.shape or self.center.ndim != 3:
            raise ValueError(f"center {self.center.shape} and spread {self.spread.shape} are one (C, gy, gx) grid each")
        if not (np.isfinite(self.center).all() and self.spread.min() > 0):
            raise ValueError("center must be finite and spread positive")

    def window(
        self, shape_px: tuple[int, int], y_px: slice, x_px: slice
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return center and spread over a window of an image of shape_px: (C, y, x), or (C, 1, 1) where it is uniform.

        The window may reach past the image, where the edge's value goes on.
        """
        return self.at(shape_px, np.arange(y_px.start, y_px.stop), np.arange(x_px.start, x_px.stop))

    def at(
        self, shape_px: tuple[int, int], y_px: NDArray[np.number], x_px: NDArray[np.number]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return center and spread in rows y_px (y,) and columns x_px (x,), as `window` does; 0 is the first centre."""
        if self.center.shape[1:] == (1, 1):
            return self.center, self.spread
        rows = _interpolation(self.center.shape[1], shape_px[0], y_px)
        columns = _interpolation(self.center.shape[2], shape_px[1], x_px)
        center, spread = rows @ self.center @ columns.T, rows @ self.spread @ columns.T
        return center.astype(np.float32, copy=False), spread.astype(np.float32, copy=False)


def _interpolation(nodes: int, length_px: int, places_px: NDArray[np.number]) -> NDArray[np.float32]:
    """Return (P, nodes) weights of linear interpolation between nodes spread evenly over 0 .. length_px - 1."""
    places = places_px.clip(0, length_px - 1) * ((nodes - 1) / max(length_px - 1, 1))
    weights = 1 - np.abs(places[:, np.newaxis] - np.arange(nodes))
    return weights.clip(0).astype(np.float32)


def percentiles(pixels: NDArray[np.generic], shares: Sequence[float]) -> NDArray[np.float64]:
    """Return (S, C) percentiles of each channel of pixels (Y, X, C), interpolated linearly.

    Integers are counted, which is ten times sooner than sorting; on small frames sorting cost a third of the network.
    """
    values = pixels.reshape(-1, pixels.shape[2])
    if values.dtype.kind != "u":
        return np.asarray(np.percentile(values.astype(np.float64), shares, axis=0))
    ranks = [share / 100 * (len(values) - 1) for share in shares]
    lower = [int(rank) for rank in ranks]
    upper = [min(rank + 1, len(values) - 1) for rank in lower]
    channels = []
    for channel in values.T:
        # plain numbers: NumPy needs longer for a handful of them than for all pixels of a small frame
        found = _up_to(channel).searchsorted(lower + upper, side="right").tolist()
        places = zip(ranks, lower, found[: len(ranks)], found[len(ranks) :], strict=True)
        channels.append([low + (high - low) * (rank - whole) for rank, whole, low, high in places])
    return np.array(channels, np.float64).T


def _up_to(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return for each integer from 0 on how many of values (N,) are not larger."""
    # OpenCV counts bytes five times sooner than NumPy, in float32, which is exact up to 2**24
    if values.itemsize == 1 and len(values) <= 2**24:
        return cv2.calcHist([np.ascontiguousarray(values)], [0], None, [256], [0, 256]).cumsum()
    return np.bincount(values).cumsum()


PATCH_PX = 9
NEAR_SUBSTRATE = 0.06
GRAIN_ROWS = 16
SURFACE_NODES = 16
COVERED_TRUST = 0.02  # not zero: a wrong outline over the whole field must leave something to follow
SURFACE_SIGHT = 0.15  # of the image's edge: how far a local correction of the surface looks


def substrate(pixels: NDArray[np.generic], covered: NDArray[np.bool_] | None = None) -> Scaling:
    """Scale to contrast against the bare substrate: (intensity - substrate) / substrate, channel by channel.

    The substrate is the smooth surface that explains most of the image, so flakes may cover up to half of it.

    pixels: (Y, X, C). Where the surface is nearly black, the spread is a fiftieth of the brightest sample instead.
    covered: (Y, X), where flakes are known to lie; the surface then follows what is left.
    """
    sample, y, x = _sparse(pixels)
    basis = _quadratic(y, x)
    # A wide start follows a strong vignette, a narrow one does not sink into a large flake: the better one counts.
    trust = _trust(sample, pixels.dtype)
    if covered is not None:
        trust = trust * np.where(_sparse(covered[..., np.newaxis])[0][:, 0] > 0, COVERED_TRUST, 1)
    surfaces = [_follow(sample, basis, level, trust, start) for level in _levels(sample) for start in (0.2, 0.06)]
    surface = max(surfaces, key=lambda coefficients: float(trust @ _likeness(sample, basis @ coefficients, 0.02)))
    fitted = basis @ surface
    weight = (trust * _likeness(sample, fitted, 0.03))[:, np.newaxis]

    nodes = np.linspace(-1, 1, SURFACE_NODES)
    node_y, node_x = (part.ravel() for part in np.meshgrid(nodes, nodes, indexing="ij"))
    square_distance = (node_y[:, np.newaxis] - y) ** 2 + (node_x[:, np.newaxis] - x) ** 2
    near = np.exp(-square_distance / (2 * (2 * SURFACE_SIGHT) ** 2))
    # The prior of zero correction keeps the polynomial where flakes hide the substrate.
    correction = near @ (weight * (sample - fitted)) / (near @ weight + 0.1 * near.sum(axis=1, keepdims=True))
    center = (_quadratic(node_y, node_x) @ surface + correction).clip(0)

    floor = max(float(sample.max()), 0.0) / 50 or 1.0
    grid = center.T.reshape(-1, SURFACE_NODES, SURFACE_NODES).astype(np.float32)
    return Scaling(grid, np.maximum(grid, np.float32(floor)))


def substrate_noise(
    pixels: NDArray[np.generic], scaling: Scaling, covered: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return how far (C,) bare places of about 10 px across stray from the surface, as a share of it.

    It is what an even region's contrast owes to the surface and to JPEG blocks; the noise of single pixels is averaged
    out. A robust standard deviation; 1 where no bare place is left.

    covered: (Y, X), where flakes are known to lie.
    """
    means = thumbnail(pixels, PATCH_PX)
    shape_px = (pixels.shape[0], pixels.shape[1])
    middles = ((np.arange(n) + 0.5) * length / n - 0.5 for n, length in zip(means.shape[:2], shape_px, strict=True))
    center, _ = scaling.at(shape_px, *middles)
    strays = means / np.maximum(center.transpose(1, 2, 0), 1e-6) - 1
    bare = (np.abs(strays) < NEAR_SUBSTRATE).all(2)
    if covered is not None:
        bare &= thumbnail(covered[..., np.newaxis].astype(np.uint8), PATCH_PX)[..., 0] == 0
    if not bare.any():
        return np.ones(pixels.shape[2])
    return np.asarray(1.48 * np.median(np.abs(strays[bare]), axis=0), np.float64)


def grain(pixels: NDArray[np.generic], scaling: Scaling, smooth_px: int) -> float:
    """Return how far single bare pixels stray from their neighbourhood once a median over smooth_px has smoothed them.

    A robust standard deviation, as a share of the surface, of the channel that strays most; 0 where nothing is bare.
    One strip in eight is looked at.
    """
    shape_px = (pixels.shape[0], pixels.shape[1])
    strays = []
    for start in range(0, shape_px[0], 8 * GRAIN_ROWS):
        rows = slice(start, min(start + GRAIN_ROWS, shape_px[0]))
        _, spread = scaling.window(shape_px, rows, slice(0, shape_px[1]))
        smooth = np.asarray(cv2.medianBlur(np.ascontiguousarray(pixels[rows]), smooth_px))
        contrast = smooth.transpose(2, 0, 1) / spread - 1
        bare = contrast[:, (np.abs(contrast) < NEAR_SUBSTRATE).all(0)]
        if bare.size:
            strays.append(np.abs(bare - np.median(bare, axis=1, keepdims=True)))
    return float(1.48 * np.median(np.concatenate(strays, axis=1), axis=1).max()) if strays else 0.0


def thumbnail(pixels: NDArray[np.generic], factor: int) -> NDArray[Any]:
    """Return pixels (Y, X, C) averaged over squares of factor x factor; the last rows and columns may count twice."""
    height_px, width_px = (max(1, length // factor) for length in pixels.shape[:2])
    small = cv2.resize(np.ascontiguousarray(pixels), (width_px, height_px), interpolation=cv2.INTER_AREA)
    return np.asarray(small).reshape(height_px, width_px, -1)


def ceiling(dtype: np.dtype[np.generic]) -> float:
    """Return the largest value that pixels of a type can have; floats know none."""
    return 256.0**dtype.itemsize - 1 if dtype.kind == "u" else np.inf


def _sparse(pixels: NDArray[np.generic]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return at most about 2000 pixels (N, C), spread evenly, and their y and x in -1..1."""
    step = max(1, int(np.sqrt(pixels.shape[0] * pixels.shape[1] / 2000)))
    offset = min(step // 2, min(pixels.shape[:2]) - 1)
    sample = pixels[offset::step, offset::step].astype(np.float64)
    rows, columns = ((offset + step * np.arange(count)) for count in sample.shape[:2])
    rows, columns = rows * 2 / max(pixels.shape[0] - 1, 1) - 1, columns * 2 / max(pixels.shape[1] - 1, 1) - 1
    y, x = np.meshgrid(rows, columns, indexing="ij")
    return sample.reshape(-1, pixels.shape[2]), y.ravel(), x.ravel()


def _quadratic(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.ones_like(y), y, x, y * y, x * y, x * x], axis=1)


def _trust(sample: NDArray[np.float64], dtype: np.dtype[np.generic]) -> NDArray[np.float64]:
    """Return 1 for each pixel (N,) and little for a saturated one: thick crystals saturate and are perfectly flat."""
    return np.where((sample >= 0.98 * ceiling(dtype)).any(axis=1), 0.05, 1.0)


def _levels(sample: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return colours (L, C) from which the search for the substrate starts."""
    order = np.argsort(sample.sum(axis=1))
    return np.stack([np.median(part, axis=0) for part in np.array_split(sample[order], 8) if len(part)])


def _follow(
    sample: NDArray[np.float64],
    basis: NDArray[np.float64],
    level: NDArray[np.float64],
    trust: NDArray[np.float64],
    start: float,
) -> NDArray[np.float64]:
    """Return the coefficients (6, C) of the surface that reweighted least squares reach from one level."""
    coefficients = np.zeros((basis.shape[1], sample.shape[1]))
    coefficients[0] = level
    for tolerance in np.geomspace(start, 0.025, 5):
        weighted = basis * (trust * _likeness(sample, basis @ coefficients, tolerance))[:, np.newaxis]
        # The small ridge keeps a surface that few pixels support flat.
        ridge = np.diag([1e-9, *(basis.shape[1] - 1) * [1e-3 * len(basis)]])
        coefficients = np.asarray(np.linalg.solve(weighted.T @ basis + ridge, weighted.T @ sample), np.float64)
    return coefficients


def _likeness(sample: NDArray[np.float64], surface: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """Return 0..1 for each pixel (N,): 1 on the surface, falling fast beyond `tolerance` of its brightness."""
    brightness = np.maximum(surface.mean(axis=1), 1e-9 + np.abs(sample).max() / 100)
    distance = np.square((sample - surface) / brightness[:, np.newaxis]).mean(axis=1)
    return np.asarray(np.square(1 / (1 + distance / tolerance**2)), np.float64)
