"""Where the label file of an image lies in a run's folder."""

from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from pathlib import PurePosixPath

from micro.errors import RunRefused
from micro.line import LABELS_NAME

# What file systems take: ext4, NTFS, APFS allow 255 in one name; Linux allows 4096 in a whole path, of which the run's
# folder needs a part.
NAME_BYTES = 255
PATH_BYTES = 1024


def candidates(name: str) -> Iterator[str]:
    """Yield label files for an image, relative to the run's folder, the best first; a run takes the first free one.

    `labels/<image path without suffix>.tif`; with its suffix, where an image that differs only in that came before;
    then, or where no file system takes the name, cut short and ending in `~` and a hash.
    """
    if not is_inside(name):
        raise RunRefused(f"{name}: an image's name may not lead out of the run's folder.")
    for stem in dict.fromkeys((str(PurePosixPath(name).with_suffix("")), name)):
        if _fits(path := PurePosixPath(f"{LABELS_NAME}/{stem}.tif")):
            yield str(path)
    for number in count():
        yield _hashed(PurePosixPath(f"{LABELS_NAME}/{name}.tif"), sha256(f"{name}\0{number}".encode()).hexdigest()[:12])


def flat(name: str) -> str:
    """Return a label file that needs no folder, for an image whose folder's name another label file has."""
    return f"{LABELS_NAME}/~{sha256(name.encode()).hexdigest()[:24]}.tif"


def is_inside(path: str) -> bool:
    """Whether a path stays below the folder to which it is joined."""
    return not PurePosixPath(path).is_absolute() and ".." not in PurePosixPath(path).parts


def _fits(path: PurePosixPath) -> bool:
    return len(str(path).encode()) <= PATH_BYTES and all(len(part.encode()) <= NAME_BYTES for part in path.parts)


def _hashed(path: PurePosixPath, digest: str) -> str:
    ending = f"~{digest}.tif"
    short = path.with_name(path.stem.encode()[: NAME_BYTES - len(ending)].decode(errors="ignore") + ending)
    return str(short if _fits(short) else PurePosixPath(LABELS_NAME) / short.name)
