"""Which images a run reads, and the name that each of them bears in every table."""

import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from micro import formats
from micro.errors import MicroError
from micro.line import CORRECTIONS_NAME, LABELS_NAME, LEDGER_NAME, RECORD_NAME

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

T = TypeVar("T")
log = logging.getLogger(__name__)

OFFERED = (
    "A source is an image file, a folder, a pattern such as 'day1/*.png', a .txt file with one path a line, or an "
    "address such as s3://bucket/day1."
)
# What lies in a folder that a run made.
_OURS = frozenset((LEDGER_NAME, RECORD_NAME))
_OUR_FOLDERS = frozenset((LABELS_NAME, CORRECTIONS_NAME))
# Maps of a run, each with the tables that lie beside it.
_OUR_MAPS = {"strip.png": ("strip.json", "strip.csv"), "map.png": ("tiles.csv", "flakes.csv")}
# What tells one version of a remote file from the next: the first of these that its server gives.
_VERSION_KEYS = ("ETag", "etag", "md5", "contentHash", "LastModified", "last_modified", "mtime", "created")
_LOCAL = ("file://", "local://")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True, slots=True)
class Source:
    """One image of a run.

    name: path relative to what was named on the command line, with forward slashes; unique in a run, free of `..`.
    address: where its bytes lie, a path or a URL; they may be missing or unreadable, which is found out on reading.
    root: the folder that was looked through, out of which no link may lead; empty where the file itself was named.
    """

    name: str
    address: str
    root: str = ""

    @property
    def is_remote(self) -> bool:
        """Whether the address is a URL."""
        return is_address(self.address)


@dataclass(frozen=True, slots=True)
class _Sighting:
    """A file that was found, and the folder it was looked for in; paths are absolute and without `..`."""

    address: str
    root: str

    def name(self) -> str:
        """Return the path from the root, or the whole one where the file is not below it."""
        inside = self.address.startswith(prefix := f"{self.root.rstrip('/')}/")
        return _shown(self.address.removeprefix(prefix)) if inside else self.whole_name()

    def rooted_name(self) -> str:
        """Return the name with that of its folder in front."""
        folder = self.root.rstrip("/").rpartition("/")[2]
        return f"{_shown(folder)}/{self.name()}" if folder else self.name()

    def whole_name(self) -> str:
        """Return the whole path or address."""
        return _shown(_ADDRESS.sub("", self.address).lstrip("/"))


@dataclass(frozen=True)
class _Place:
    """One source of the command line.

    look: find what is there now, each with its stamp where looking told it. root: where it is looked for.
    is_searched: whether images are found in it, and not named by the user. accepts: whether a path below the root would
    be found; None where only looking tells.
    """

    source: str
    root: str
    look: Callable[[], dict[str, str | None]]
    is_searched: bool = True
    accepts: Callable[[str], bool] | None = None

    def holds(self, path: str) -> bool:
        """Whether a local file is, or is as soon as it appears, among those that looking finds."""
        if self.accepts is not None:
            return self.accepts(path)
        if is_address(self.root):
            return False
        with suppress(MicroError, OSError):
            return path in self.look()
        return False


class Search:
    """What the sources of a command line name, looked for as often as one likes.

    Hidden files, links to folders, files without the suffix of an image, and the label files, corrections and maps of
    earlier runs are passed over; a file that is named singly or in a list is taken as it is. Where images come from
    several folders, each name has that of its folder in front, or is the whole path where folders are namesakes: so the
    name of an image never depends on which others are there.

    Raises MicroError when a source does not exist.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        if not sources:
            raise MicroError(f"No source is given. {OFFERED}")
        self._places = [_place(source) for source in sources]
        roots = {place.root.rstrip("/") for place in self._places}
        folders = {root.rpartition("/")[2] for root in roots}
        whole = _Sighting.whole_name if len(folders) < len(roots) else _Sighting.rooted_name
        self._name = _Sighting.name if len(roots) == 1 else whole

    def find(self) -> list[Source]:
        """Return the images that are there now, each once, in the order of the sources; folders are sorted.

        Raises MicroError when a source holds no image, or two images would bear one name.
        """
        found: dict[str, Source] = {}
        for place in self._places:
            addresses = place.look()
            if not addresses:
                raise MicroError(f"{place.source}: no image is in it. {OFFERED}")
            for address in addresses:
                found.setdefault(address, self._source(place, address))
        for name, count in Counter(source.name for source in found.values()).items():
            if count > 1:
                raise MicroError(f"{name}: two images would bear this name. Read them in separate runs.")
        return list(found.values())

    def glance(self) -> Iterator[tuple[Source, str | None]]:
        """Yield each image that is there now, with its stamp where looking told it; none of what is away."""
        told: set[str] = set()
        for place in self._places:
            try:
                found = place.look()
            except (MicroError, OSError) as fault:
                log.warning("%s", fault)
                continue
            for address, stamp in found.items():
                if address not in told:  # folders may lie in each other
                    told.add(address)
                    yield self._source(place, address), stamp

    def folders(self) -> list[str]:
        """Return the local folders in which files that appear would be found."""
        return sorted({place.root for place in self._places if place.accepts is not None})

    def has_remote(self) -> bool:
        """Whether a source lies on a server, which tells of nothing."""
        return any(is_address(place.root) for place in self._places)

    def source(self, path: str) -> Source | None:
        """Return the image that a file which appeared in one of `folders` is, or None where it is none of ours."""
        for place in self._places:
            if place.holds(path):
                return self._source(place, path)
        return None

    def _source(self, place: _Place, address: str) -> Source:
        name = self._name(_Sighting(address, place.root))
        return Source(name, address, place.root if place.is_searched else "")


def find(sources: Sequence[str]) -> list[Source]:
    """Return the images that the sources of a command line name now; see `Search`."""
    return Search(sources).find()


def is_address(source: str) -> bool:
    """Whether a text is a URL, and not a path."""
    return "://" in source and bool(_ADDRESS.match(source))


def version_of(facts: Mapping[str, Any]) -> str:
    """Return what tells one version of a remote file from the next, by what its server says of it."""
    told = (facts[key] for key in _VERSION_KEYS if facts.get(key) is not None)
    return f"{facts.get('size')}-{next(told, '')}"


def system_of(address: str) -> "tuple[AbstractFileSystem, str]":
    """Return the file system of a URL, and the path in it; raise MicroError where its package is missing."""
    import fsspec

    try:
        # a listing or a connection that is kept would show files as they were
        system, path = fsspec.core.url_to_fs(address, use_listings_cache=False, skip_instance_cache=True)
    except (ImportError, ValueError) as fault:
        scheme = address.partition("://")[0]
        hint = "pip install 'micro[s3]'" if scheme == "s3" else "Install what fsspec needs for it."
        raise MicroError(f"{address}: {scheme} addresses cannot be read here ({fault}). {hint}") from fault
    return system, path


def _place(source: str) -> _Place:
    try:
        if not source.strip():
            raise MicroError(f"One source is an empty text. {OFFERED}")
        if is_address(source):
            return _remote(source)
        return _local(source)
    except OSError as fault:
        raise MicroError(f"{source}: cannot be looked at ({fault.strerror}). {OFFERED}") from fault


def _local(source: str) -> _Place:
    path = Path(source)
    whole = _absolute(path)
    if path.is_dir():
        root = str(whole)
        return _Place(source, root, lambda: _in_folder(root), accepts=lambda file: _is_led(file, root))
    if path.suffix.lower() == ".txt" and path.is_file():
        return _Place(source, str(whole.parent), lambda: _in_list(whole), is_searched=False)
    if path.is_symlink() or path.exists():
        return _Place(source, str(whole.parent), lambda: {str(whole): None}, is_searched=False)
    if glob.has_magic(source):
        parts = whole.parts
        fixed = list(takewhile(lambda part: not glob.has_magic(part), parts))
        root, wild = str(Path(*fixed)), parts[len(fixed) :]

        def accepts(file: str) -> bool:
            return _is_led(file, root) and _matches(Path(file).parts[len(fixed) :], wild)

        return _Place(source, root, lambda: _matching(str(whole), root), accepts=accepts)
    raise MicroError(f"{source}: there is no such file or folder. {OFFERED}")


def _remote(source: str) -> _Place:
    system, path = system_of(source)
    if "file" in (system.protocol if isinstance(system.protocol, tuple) else (system.protocol,)):
        return _local(path)

    def asked(question: Callable[[], T]) -> T:
        try:
            return question()
        except Exception as fault:  # each kind of server has faults of its own
            raise MicroError(f"{source}: cannot be looked at ({type(fault).__name__}: {fault}).") from fault

    def images_of(found: Mapping[str, Mapping[str, Any]]) -> dict[str, str | None]:
        wanted = filter(formats.is_image_name, sorted(found))
        return {system.unstrip_protocol(path): version_of(found[path]) for path in wanted}

    if glob.has_magic(path):
        fixed = "/".join(takewhile(lambda part: not glob.has_magic(part), path.split("/")))
        root = system.unstrip_protocol(fixed)
        return _Place(source, root, lambda: images_of(asked(lambda: system.glob(path, detail=True))))
    if asked(lambda: system.isdir(path)):
        root = system.unstrip_protocol(path)
        return _Place(source, root, lambda: images_of(asked(lambda: system.find(path, detail=True))))
    if asked(lambda: system.exists(path)):
        address = system.unstrip_protocol(path)
        return _Place(source, address.rpartition("/")[0], lambda: {address: None}, is_searched=False)
    raise MicroError(f"{source}: there is no such file or folder. {OFFERED}")


def _in_folder(root: str) -> dict[str, str | None]:
    """Look through a folder; what cannot be looked into is sighted as if it were an image, so that it is not lost."""
    found: list[str] = []

    def sight_closed(fault: OSError) -> None:
        if fault.filename == root:
            raise MicroError(f"{root}: cannot be looked into ({fault.strerror}).") from fault
        found.append(str(fault.filename))

    for place, folders, files in os.walk(root, onerror=sight_closed):
        for name in folders:
            if Path(place, name).is_symlink():
                log.warning("%s: a link to a folder is not followed", Path(place, name))
        ours = _OUR_FOLDERS if not _OURS.isdisjoint(files) else frozenset[str]()
        folders[:] = [name for name in folders if not name.startswith(".") and name not in ours]
        found += [f"{place.rstrip('/')}/{name}" for name in files if _is_image(place, name)]
    return dict.fromkeys(sorted(found))


def _in_list(listing: Path) -> dict[str, str | None]:
    """Read one path a line, relative to the list's own folder; bytes that are not UTF-8 are kept as file names do."""
    try:
        lines = listing.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as fault:
        raise MicroError(f"{listing}: the list cannot be read ({fault.strerror}).") from fault
    entries = (line.strip() for line in lines)
    return dict.fromkeys(_listed(entry, listing.parent) for entry in entries if entry)


def _listed(entry: str, folder: Path) -> str:
    """Return the address of a line of a list in that folder; one of this machine's own files is a path."""
    if is_address(entry):
        if not entry.startswith(_LOCAL):
            return entry
        entry = system_of(entry)[1]
    return str(_absolute(folder / entry))


def _matching(pattern: str, root: str) -> dict[str, str | None]:
    """Return what a pattern matches below its leading part without wildcards."""
    paths = (_absolute(Path(match)) for match in glob.iglob(pattern, recursive=True))  # noqa: PTH207 -- Path.glob takes no absolute pattern
    return dict.fromkeys(sorted(str(path) for path in paths if _is_led(str(path), root) and not path.is_dir()))


def _matches(parts: Sequence[str], wild: Sequence[str]) -> bool:
    """Whether the parts of a path match those of a pattern, in which ** stands for any number of folders."""
    if not wild:
        return not parts
    if wild[0] == "**":
        return _matches(parts, wild[1:]) or (bool(parts) and _matches(parts[1:], wild))
    return bool(parts) and fnmatchcase(parts[0], wild[0]) and _matches(parts[1:], wild[1:])


def _is_led(file: str, root: str) -> bool:
    """Whether a search below root finds a file there of this name: an image, not hidden, and not made by a run."""
    path = Path(file)
    if not _is_image(str(path.parent), path.name) or not path.is_relative_to(root):
        return False
    folders = path.relative_to(root).parts[:-1]
    if any(part.startswith(".") for part in folders):
        return False
    ours = (Path(root, *folders[:depth]) for depth, part in enumerate(folders) if part in _OUR_FOLDERS)
    return not any((folder / name).exists() for folder in ours for name in _OURS)


def _is_image(folder: str, name: str) -> bool:
    """Whether a file has the name of an image, and is no map of a run."""
    beside = _OUR_MAPS.get(name)
    return formats.is_image_name(name) and not (beside and all(Path(folder, table).exists() for table in beside))


def _absolute(path: Path) -> Path:
    """Return the path from the anchor, without `..` and without following links: a link is an image of its own."""
    return Path(os.path.normpath(path.absolute()))


def _shown(path: str) -> str:
    """Return a path as text that any file and database takes, and that leads nowhere else.

    Bytes that are not UTF-8 are written out; so are the steps that only an address can have: `.`, `..` and none.
    """
    words = os.fsencode(Path(path).as_posix() if os.sep != "/" else path).decode("utf-8", "backslashreplace")
    steps = words.split("/")
    return "/".join(step.replace(".", "%2E") or "%2F" if step in ("", ".", "..") else step for step in steps)
