"""Where the label file of each image lies in a run's folder."""

from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from pathlib import PurePosixPath

from micro.errors import RunRefused
from micro.line import LABELS_NAME

# What file systems take: ext4, NTFS, APFS allow 255 in one name; Linux allows 4096 in a whole path, of which the run's
# folder needs a part.
NAME_BYTES = 255
PATH_BYTES = 1024


def paths(recorded: Mapping[str, str | None]) -> dict[str, str]:
    """Return the label file of each image, relative to the run's folder: `labels/<image path without suffix>.tif`.

    recorded: the images, each with the label file that it already has, which it keeps, or None.

    Images that differ only in their suffix keep it (`labels/a.png.tif`, `labels/a.jpg.tif`); a name that no file system
    takes is cut and ends in `~` and a hash. No two images share a file.
    """
    for name, path in recorded.items():
        if not is_inside(name) or not is_inside(path or name):
            raise RunRefused(f"{name}: an image's name may not lead out of the run's folder.")
    short = {name: str(PurePosixPath(name).with_suffix("")) for name in recorded}
    wanted = Counter(short.values())
    folders = {str(folder) for name in recorded for folder in PurePosixPath(name).parents}
    chosen = {name: path for name, path in recorded.items() if path is not None}
    used = set(chosen.values()) | {f"{LABELS_NAME}/{folder}" for folder in folders}
    for name in recorded.keys() - chosen.keys():
        stem = short[name]
        is_free = wanted[stem] == 1 and (stem == name or stem not in short)
        stem = stem if is_free and f"{LABELS_NAME}/{stem}.tif" not in used else name
        chosen[name] = f"{LABELS_NAME}/{_fitting(stem, name, is_taken=f'{LABELS_NAME}/{stem}.tif' in used)}"
    return chosen


def is_inside(path: str) -> bool:
    """Whether a path stays below the folder to which it is joined."""
    return not PurePosixPath(path).is_absolute() and ".." not in PurePosixPath(path).parts


def _fitting(stem: str, name: str, *, is_taken: bool) -> str:
    file = PurePosixPath(f"{stem}.tif")
    fits = len(str(file).encode()) <= PATH_BYTES and all(len(part.encode()) <= NAME_BYTES for part in file.parts)
    if fits and not is_taken:
        return str(file)
    ending = f"~{sha256(name.encode()).hexdigest()[:12]}.tif"
    cut = file.stem.encode()[: NAME_BYTES - len(ending)].decode(errors="ignore") + ending
    folder_fits = len(str(file.parent).encode()) < PATH_BYTES - NAME_BYTES and all(
        len(part.encode()) <= NAME_BYTES for part in file.parent.parts
    )
    return str(file.with_name(cut)) if folder_fits else cut
