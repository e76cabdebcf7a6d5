"""Which images belong together: copies, near copies, and images of one specimen."""

import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from micro.errors import BadSetting
from micro.folder.folder import Annotated

GROUPS = "groups.csv"


def grouped(items: Sequence[Annotated], root: Path, group_by: str | None) -> tuple[list[Annotated], list[str]]:
    """Give images the groups that a table or their names say; copies of one image count as one group as it is."""
    path = root / GROUPS
    if group_by is not None:
        return _by_name(items, group_by)
    if not path.is_file():
        return list(items), []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except UnicodeDecodeError as fault:
        return list(items), [f"{path}: not a CSV table in UTF-8 ({fault.reason} at byte {fault.start})."]
    except csv.Error as fault:
        return list(items), [f"{path}: not a CSV table ({fault})."]
    if not rows or not {"image", "group"} <= rows[0].keys():
        return list(items), [f"{path}: a table with the columns image,group is expected."]
    said = {(row["image"], row["group"].strip()) for row in rows if row["group"] and row["group"].strip()}
    group_of = dict(sorted(said))
    names = {item.image.name for item in items}
    problems = [f"{path}: no image {name!r} in the folder." for name in group_of if name not in names]
    problems += [f"{path}: {name!r} is in several groups." for name in group_of if sum(name == n for n, _ in said) > 1]
    problems += [f"{path}: no group for the image {name!r}." for name in sorted(names - group_of.keys())]
    return [replace(item, group=group_of.get(item.image.name, item.group)) for item in items], problems


def _by_name(items: Sequence[Annotated], pattern: str) -> tuple[list[Annotated], list[str]]:
    try:
        compiled = re.compile(pattern)
    except re.error as fault:
        raise BadSetting(f"{pattern!r} is no regular expression: {fault}.") from fault
    if compiled.groups != 1:
        raise BadSetting(f"{pattern!r}: one group in brackets is expected, which is the specimen, as in '^([^_]+)_'.")
    found = {item.image.name: compiled.search(item.image.name) for item in items}
    problems = [f"{name}: {pattern!r} finds no group in the name." for name, match in found.items() if not match]
    own = [replace(item, group=match.group(1)) if (match := found[item.image.name]) else item for item in items]
    return own, problems


def contradictions(items: Sequence[Annotated]) -> list[str]:
    """Name images that are equal and annotated differently."""
    problems = []
    for twins in _twins(items).values():
        first = twins[0]
        for other in twins[1:]:
            same_mask = first.labels is None or other.labels is None or np.array_equal(first.labels, other.labels)
            if first.class_name != other.class_name or not same_mask:
                problems.append(f"{first.image.name} and {other.image.name}: equal pixels, different annotations.")
    return problems


def _twins(items: Sequence[Annotated]) -> Mapping[str, list[Annotated]]:
    found: dict[str, list[Annotated]] = defaultdict(list)
    for item in items:
        found[item.digest].append(item)
    return found


# --- images that show nearly the same ---------------------------------------------------------------------------------

# Of thumbnails without their coarse light. Different places of one material, or sheets with the same kind of mark, came
# to 0.77 at most (52 melt pools, 907 frames of strip); copies at JPEG quality 40, resized and darkened, to 0.92 or more
# in nine of ten.
LEAST_AGREEMENT = 0.9
# Of thumbnails in which each place counts alike. Plain sheets under one lamp, and strips that share nothing but their
# edge, came to more in 1 of 20,000 pairs; such copies, and shifts by 2 px of 128, in 98 of 100.
LEAST_DETAIL = 0.5
THUMBNAIL_PX, LIGHT_PX = 32, 3
DETAIL_PX, MOST_DETAIL = 2, 0.7  # the latter in root mean squares of what is around
LEAST_CONTRAST = 0.5  # of a grey value of 255; flatter thumbnails show rounding alone
ROWS_AT_ONCE = 1024
# A camera that does not move shows the same scene again and again: where images have more near copies than this, on
# average and as a share of all others, likeness tells no copies.
MOST_COPIES, MOST_SHARE = 10, 0.1


def with_near_copies(items: Sequence[Annotated], stated: bool) -> tuple[list[Annotated], list[str]]:
    """Put near copies of an image, turned or mirrored ones too, into one group, and name them.

    stated: somebody said which images belong together; then only equal ones change their group, and others are named.
    Where nearly all images look alike, only equal ones are joined, and that is said.
    """
    equal = _pairs_of(item.digest for item in items)
    near = _near_pairs([item.image.pixels for item in items])
    remarks = []
    copies = 2 * len(near) / max(len(items), 1)
    if copies > max(MOST_COPIES, MOST_SHARE * len(items)):
        near = []
        remarks.append(
            f"each image looks nearly like {copies:.0f} others, so only equal ones are kept on one side of every "
            f"split: if some show one specimen, say so in {GROUPS} or by --group-by"
        )
    joined = _joined(len(items), [*equal, *_pairs_of(item.group for item in items), *([] if stated else near)])
    own = [replace(item, group=items[first].group) for item, first in zip(items, joined, strict=True)]
    apart = {pair for pair in near if own[pair[0]].group != own[pair[1]].group}
    for what, pairs in (
        ("the same or nearly the same image more than once, kept on one side of every split", [*equal, *near]),
        ("nearly the same image in two groups, so perhaps on both sides of a split", apart),
    ):
        alike: dict[int, list[str]] = defaultdict(list)
        together = _joined(len(items), [pair for pair in pairs if (pair in apart) == (pairs is apart)])
        for index, first in enumerate(together):
            alike[first].append(items[index].image.name)
        said = [", ".join(names[:8]) + ("..." if len(names) > 8 else "") for names in alike.values() if len(names) > 1]
        more = f"; and {len(said) - 12} more" if len(said) > 12 else ""
        remarks += [f"{what}: {'; '.join(said[:12])}{more}"] if said else []
    return own, remarks


def _pairs_of(keys: Iterable[str]) -> list[tuple[int, int]]:
    """Return the places of equal keys, each with the first of them."""
    first_of: dict[str, int] = {}
    return [(first_of.setdefault(key, index), index) for index, key in enumerate(keys)]


def _joined(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Return for each of count things the first of those that pairs join it to, directly or by others."""
    found = sparse.coo_array((np.ones(len(edges := np.array(list(pairs)).reshape(-1, 2))), edges.T), (count, count))
    part = connected_components(found, directed=False)[1]
    first: dict[int, int] = {}
    return [first.setdefault(int(each), index) for index, each in enumerate(part)]


def _near_pairs(images: Sequence[NDArray[np.generic]]) -> list[tuple[int, int]]:
    if not images:
        return []
    plain = np.stack([_thumbnail(pixels) for pixels in images])
    detail = np.stack([_detail(pixels) for pixels in images])
    pairs = []
    for turned, turned_detail in zip(_orientations(plain), _orientations(detail), strict=True):
        for start in range(0, len(plain), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            is_near = _agreement(plain[rows], turned) > LEAST_AGREEMENT
            is_near &= _agreement(detail[rows], turned_detail) > LEAST_DETAIL
            pairs += [(start + row, column) for row, column in np.argwhere(is_near).tolist()]
    return sorted({(low, high) for low, high in pairs if low < high})


def _agreement(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosine (N, M) between each of N pictures and each of M, (y, x) of unit length each."""
    found: NDArray[np.float32] = some.reshape(len(some), -1) @ others.reshape(len(others), -1).T
    return found


def _orientations(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    turned = [np.rot90(images, quarter, axes=(1, 2)) for quarter in range(4)]
    return [*turned, *(each[:, ::-1] for each in turned)]


def _thumbnail(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return a small picture (y, x) of unit length; zero where nothing is in it."""
    small = _small(pixels, THUMBNAIL_PX)
    least = _least_contrast(pixels, small)
    small -= cv2.GaussianBlur(small, (0, 0), LIGHT_PX)
    return _of_unit_length(small) if small.std() >= least else np.zeros_like(small)


def _detail(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return a small picture (y, x) of unit length in which no edge or light outweighs the rest; zero if it is flat.

    Two images of nothing, with the same light or the same border of a sheet in them, have no detail in common.
    """
    small = _small(pixels, THUMBNAIL_PX)
    least = _least_contrast(pixels, small)
    around = 4 * LIGHT_PX
    # continued as it falls, and curvature taken off too, or the light of a lamp would be left along the borders
    small = np.pad(small, around, "reflect", reflect_type="odd")
    for _ in range(2):
        small -= cv2.GaussianBlur(small, (0, 0), DETAIL_PX)
    inner = slice(around, -around)
    if small[inner, inner].std() < least:
        return np.zeros((THUMBNAIL_PX, THUMBNAIL_PX), np.float32)
    even = (small / np.sqrt(cv2.GaussianBlur(small**2, (0, 0), DETAIL_PX) + least**2))[inner, inner]
    return _of_unit_length(even.clip(-MOST_DETAIL, MOST_DETAIL))


def _least_contrast(pixels: NDArray[np.generic], small: NDArray[np.float32]) -> float:
    white = 255.0 if pixels.dtype == np.uint8 else max(float(small.max()), 1e-9)
    return LEAST_CONTRAST / 255 * white


def _of_unit_length(small: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = small / np.linalg.norm(small)
    return found


def _small(pixels: NDArray[np.generic], edge_px: int) -> NDArray[np.float32]:
    grey = cv2.resize(np.asarray(pixels), (edge_px, edge_px), interpolation=cv2.INTER_AREA)
    mean: NDArray[np.float32] = grey.astype(np.float32).reshape(edge_px, edge_px, -1).mean(axis=2)
    return mean


# --- masks that may belong to another image ---------------------------------------------------------------------------

LOOKED_AT_PX = 512
LEAST_OUTLINE_PX = 64
SHIFTS = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (2, 1), (1, 2), (2, 2))
MOST_BETTER = 2


def doubtful_masks(items: Sequence[Annotated]) -> list[str]:
    """Name images whose mask is that of another image too, or whose outlines fit it no better than when shifted."""
    seen: dict[str, str] = {}
    copies, doubtful = [], []
    for item in items:
        if item.labels is None or item.labels.min() == item.labels.max():
            continue
        digest = hashlib.sha256(np.ascontiguousarray(item.labels).data).hexdigest()
        if seen.setdefault(digest, item.digest) != item.digest:
            copies.append(item.image.name)
        if not _fits(item.image.pixels, item.labels):
            doubtful.append(item.image.name)
    return [
        f"{what}; is it the mask of another image? {', '.join(names[:12])}"
        + (f" and {len(names) - 12} more" if len(names) > 12 else "")
        for what, names in (
            ("the mask is that of an earlier image too", copies),
            ("outlines lie where the image shows no more than elsewhere", doubtful),
        )
        if names
    ]


def _fits(pixels: NDArray[np.generic], labels: NDArray[np.int32]) -> bool:
    """Whether the image changes more along the outlines of its mask than along the same outlines shifted."""
    step = max(1, min(labels.shape) // LOOKED_AT_PX)
    looked = labels[::step, ::step]
    grey = cv2.resize(np.asarray(pixels), looked.shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    grey = cv2.GaussianBlur(grey.reshape(*looked.shape, -1).mean(axis=2), (0, 0), 1)
    change = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    outline = np.zeros(looked.shape, bool)
    known = looked >= 0
    outline[1:] |= (looked[1:] != looked[:-1]) & known[1:] & known[:-1]
    outline[:, 1:] |= (looked[:, 1:] != looked[:, :-1]) & known[:, 1:] & known[:, :-1]
    if np.count_nonzero(outline) < LEAST_OUTLINE_PX:
        return True
    here = float(change[outline].mean())
    height, width = len(looked) // 3, looked[0].size // 3
    elsewhere = [
        float(change[np.roll(outline, (height * down, width * right), (0, 1))].mean()) for down, right in SHIFTS
    ]
    return sum(other >= here for other in elsewhere) < MOST_BETTER
