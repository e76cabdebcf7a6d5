"""A bundle from elsewhere is checked and installed."""

import io
import os
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from micro import bundle as bundles
from micro import trial
from micro.bundle import Bundle
from micro.errors import BrokenBundle

MOST_BYTES = 2**28
MOST_FILES = 64


class Installed(NamedTuple):
    """A bundle where it lies now, and what its sample said."""

    bundle: Bundle
    says: str


def home() -> Path:
    """Return the folder that takes new bundles: the first in $MICRO_BUNDLES, or the user's own."""
    return bundles.places()[0]


def add(source: str) -> Installed:
    """Install a bundle from its folder, or from a zip in a file or at a URL; it proves itself on its own sample first.

    Raises BrokenBundle when it is no bundle, answers otherwise than it did, or another one of its name is installed.
    """
    with tempfile.TemporaryDirectory(prefix="micro-") as place:
        folder = Path(source)
        if not folder.is_dir():
            folder = _unpacked(_fetched(source), Path(place), source)
        found = bundles.load(folder)
        name = found.card.name
        target = home() / name
        if name in bundles.installed():
            raise BrokenBundle(
                f"{source}: a bundle {name!r} is installed in {bundles.installed()[name]}. Remove it first."
            )
        says = trial.prove(found, "cpu")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{name}.{os.getpid()}.part")
        try:
            files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.is_symlink()]
            part.mkdir()
            for path in files:
                shutil.copyfile(path, part / path.name)
            part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return Installed(bundles.load(target), says)


def _fetched(source: str) -> bytes:
    import fsspec

    try:
        with fsspec.open(source, "rb") as file:
            data: bytes = file.read(MOST_BYTES + 1)
    except Exception as fault:  # each file system has its own way to say that there is nothing
        raise BrokenBundle(
            f"{source}: cannot be read ({type(fault).__name__}: {fault}). Give a folder, a zip or a URL."
        ) from fault
    if len(data) > MOST_BYTES:
        raise BrokenBundle(f"{source}: more than {MOST_BYTES:,} bytes, and no bundle is that large.")
    return data


def _unpacked(data: bytes, place: Path, source: str) -> Path:
    """Write the files of a zip into one folder, by their bare names, whatever paths they claim; return that folder."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            paths = [PurePosixPath(info.filename.replace("\\", "/")) for info in infos]
            cards = [path for path in paths if path.name == bundles.CARD]
            if len(cards) != 1 or len(infos) > MOST_FILES or sum(info.file_size for info in infos) > MOST_BYTES:
                raise BrokenBundle(f"{source}: not the zip of one bundle; it holds {len(cards)} files {bundles.CARD}.")
            for info, path in zip(infos, paths, strict=True):
                if path.is_absolute() or ".." in path.parts:
                    raise BrokenBundle(f"{source}: its member {info.filename!r} points outside the zip.")
                if path.parent == cards[0].parent:
                    (place / path.name).write_bytes(archive.read(info))
    except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError, EOFError) as fault:
        raise BrokenBundle(f"{source}: not a zip that can be unpacked ({fault}).") from fault
    return place
