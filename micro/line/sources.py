"""Which images a run reads, and the name that each of them bears in every table."""

import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from micro import formats
from micro.errors import MicroError
from micro.line import LABELS_NAME, LEDGER_NAME

log = logging.getLogger(__name__)

OFFERED = "A source is an image file, a folder, a pattern such as 'day1/*.png', or a .txt file with one path a line."


@dataclass(frozen=True, slots=True)
class Source:
    """One image of a run.

    name: path relative to what was named on the command line, with forward slashes; unique in a run, free of `..`.
    path: where its bytes lie, for opening only; it may be missing or unreadable, which is found out on reading.
    """

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class _Sighting:
    """A file, and the folder it was looked for in; both absolute and without `..`."""

    path: Path
    root: Path

    def name(self) -> str:
        return _shown(self.path.relative_to(self.root)) if self.path.is_relative_to(self.root) else self.whole_name()

    def rooted_name(self) -> str:
        return f"{self.root.name}/{self.name()}" if self.root.name else self.name()

    def whole_name(self) -> str:
        return _shown(self.path.relative_to(self.path.anchor))


def find(sources: Sequence[str]) -> list[Source]:
    """Return the images that the sources name, each once, in their order; folders and patterns are sorted.

    Hidden files, links to folders, files without the suffix of an image, and the label files of earlier runs are passed
    over; a file that is named singly or in a list is taken as it is. Where two images of different folders would bear
    one name, both get the name of their folder in front, or their whole path where that does not tell them apart.

    Raises MicroError when a source does not exist or names no image.
    """
    sightings: dict[Path, _Sighting] = {}
    for source in sources:
        try:
            found = _look(source)
        except OSError as fault:
            raise MicroError(f"{source}: cannot be looked at ({fault.strerror}). {OFFERED}") from fault
        if not found:
            raise MicroError(f"{source}: no image is in it. {OFFERED}")
        for sighting in found:
            sightings.setdefault(sighting.path, sighting)
    if not sightings:
        raise MicroError(f"No source is given. {OFFERED}")
    return _told_apart(list(sightings.values()))


def _look(source: str) -> list[_Sighting]:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source):
        raise MicroError(f"{source}: addresses are not read yet. Copy the images to a folder first. {OFFERED}")
    path = Path(source)
    if not source.strip():
        raise MicroError(f"One source is an empty text. {OFFERED}")
    if path.is_dir():
        return _in_folder(path)
    if path.suffix.lower() == ".txt" and path.is_file():
        return _in_list(path)
    if path.is_symlink() or path.exists():
        return [_Sighting(_absolute(path), _absolute(path).parent)]
    if glob.has_magic(source):
        return _matching(source)
    raise MicroError(f"{source}: there is no such file or folder. {OFFERED}")


def _in_folder(folder: Path) -> list[_Sighting]:
    """Look through a folder; what cannot be looked into is sighted as if it were an image, so that it is not lost."""
    root = _absolute(folder)
    found: list[_Sighting] = []

    def sight_closed(fault: OSError) -> None:
        closed = Path(fault.filename)
        if closed == root:
            raise MicroError(f"{folder}: cannot be looked into ({fault.strerror}).") from fault
        found.append(_Sighting(closed, root))

    for place, folders, files in os.walk(root, onerror=sight_closed):
        here = Path(place)
        for name in folders:
            if (here / name).is_symlink():
                log.warning("%s: a link to a folder is not followed", here / name)
        ours = {LABELS_NAME} if LEDGER_NAME in files else set()
        folders[:] = [name for name in folders if not name.startswith(".") and name not in ours]
        found += [_Sighting(here / name, root) for name in files if _is_wanted(here / name)]
    return sorted(found, key=_Sighting.name)


def _in_list(listing: Path) -> list[_Sighting]:
    """Read one path a line, relative to the list's own folder; bytes that are not UTF-8 are kept as file names do."""
    root = _absolute(listing).parent
    try:
        lines = listing.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as fault:
        raise MicroError(f"{listing}: the list cannot be read ({fault.strerror}).") from fault
    return [_Sighting(_absolute(root / line.strip()), root) for line in lines if line.strip()]


def _matching(pattern: str) -> list[_Sighting]:
    """Return what a pattern matches below its leading part without wildcards."""
    root = _absolute(Path(*takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts)))
    paths = (_absolute(Path(match)) for match in glob.iglob(pattern, recursive=True))  # noqa: PTH207 -- Path.glob takes no absolute pattern
    found = {path for path in paths if _is_wanted(path) and not path.is_dir() and not _is_ours(path, root)}
    return sorted((_Sighting(path, root) for path in found), key=_Sighting.name)


def _is_wanted(path: Path) -> bool:
    return not path.name.startswith(".") and formats.is_image_name(path)


def _is_ours(path: Path, root: Path) -> bool:
    """Whether a file below root is the label file of an earlier run."""
    between = takewhile(lambda folder: folder != root, path.parents)
    return any(folder.name == LABELS_NAME and (folder.parent / LEDGER_NAME).exists() for folder in between)


def _told_apart(sightings: Sequence[_Sighting]) -> list[Source]:
    names = [sighting.name() for sighting in sightings]
    longer: tuple[Callable[[_Sighting], str], ...] = (_Sighting.rooted_name, _Sighting.whole_name)
    for name_of in longer:
        doubled = set(_doubled(names))
        names = [name_of(seen) if name in doubled else name for name, seen in zip(names, sightings, strict=True)]
    for name in _doubled(names):
        raise MicroError(f"{name}: two images would bear this name. Read them in separate runs.")
    return [Source(name, seen.path) for name, seen in zip(names, sightings, strict=True)]


def _doubled(names: Sequence[str]) -> Iterator[str]:
    return (name for name, count in Counter(names).items() if count > 1)


def _absolute(path: Path) -> Path:
    """Return the path from the anchor, without `..` and without following links: a link is an image of its own."""
    return Path(os.path.normpath(path.absolute()))


def _shown(path: Path) -> str:
    """Return a path as text that any file and database takes; bytes that are not UTF-8 are written out."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")
