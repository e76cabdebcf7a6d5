"""The bytes of one image, wherever they lie: their hash, their pixels, and whether the file stood still meanwhile."""

import hashlib
import os
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from micro import formats
from micro.errors import MicroError, UnreadableImage
from micro.formats.storage import descriptor, opened
from micro.line.ledger import Seen
from micro.line.sources import Source, system_of, version_of
from micro.micrograph import GIVEN, Micrograph

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# Files up to this size are read whole, once; larger ones are hashed and then decoded from the system's cache, so that
# their bytes do not lie in memory beside their pixels.
WHOLE_BYTES = 2**26


@dataclass
class Look:
    """One reading of an image, filled in by the thread that reads.

    stamp: what the file system said of the file before it was read.
    is_whole: False where the file changed meanwhile, may still be growing, or where its whole folder is away: then a
    failure says nothing about the image, which is to be looked at again.
    """

    source: Source
    stamp: str | None = None
    sha256: str | None = None
    seconds: float = 0.0
    is_whole: bool = True

    def seen(self) -> Seen:
        """Return what a ledger notes of it."""
        return Seen(self.source.address, self.stamp, self.sha256)


class Reader:
    """Reads images from disks and servers; any number of threads may use it.

    settle_s: a file that cannot be read is not whole if it was written to no longer ago than this.
    pixel_size_um: what the user gave, whatever the files say.
    """

    def __init__(self, settle_s: float, pixel_size_um: float | None = None) -> None:
        self._settle_s = settle_s
        self._pixel_size_um = pixel_size_um
        self._systems: dict[str, AbstractFileSystem] = {}
        self._lock = threading.Lock()

    def read(self, look: Look) -> Micrograph:
        """Return the image, and note in `look` the hash of the very bytes that were decoded.

        Raises UnreadableImage when there is no image to be had, or not now.
        """
        began = time.perf_counter()
        try:
            image = self._remote(look) if look.source.is_remote else self._local(look)
            if self._pixel_size_um is None:
                return image
            return replace(image, pixel_size_um=self._pixel_size_um, pixel_size_source=GIVEN)
        except MicroError:
            raise
        except Exception as fault:  # a decoder's own fault in a damaged file is that file's fault, not the run's
            raise UnreadableImage(f"{look.source.name}: cannot be read ({type(fault).__name__}: {fault}).") from fault
        finally:
            look.seconds = time.perf_counter() - began

    def stamp(self, source: Source) -> str:
        """Return what changes when a file of this name is written anew.

        Raises OSError, or what its server's package raises, when the file cannot be looked at.
        """
        if source.is_remote:
            system, path = self._system(source)
            return version_of(system.info(path))
        return _stamp(os.stat(source.address))  # noqa: PTH116 -- called for each file of a folder

    def digest(self, source: Source) -> str:
        """Return the hash of a file's bytes; raise UnreadableImage or OSError, as `stamp` does, where it has none."""
        if source.is_remote:
            system, path = self._system(source)
            return hashlib.sha256(system.cat_file(path)).hexdigest()
        return _digest(source)

    def _local(self, look: Look) -> Micrograph:
        source = look.source
        try:
            _refuse_leaving(source)
            with descriptor(source.address, source.name) as (number, before):
                look.stamp = _stamp(before)
                look.is_whole = not 0 <= time.time() - before.st_mtime < self._settle_s
                try:
                    image = _decoded(look, number, before.st_size)
                finally:
                    # a large file is opened anew for its hash and for its pixels: another one may have taken its place
                    after = os.stat(source.address) if before.st_size > WHOLE_BYTES else os.fstat(number)  # noqa: PTH116
                    stood_still = _content(before) == _content(after)
                    look.is_whole &= stood_still
        except UnreadableImage:
            look.is_whole &= not source.root or Path(source.root).is_dir()
            raise
        look.is_whole = stood_still
        if not stood_still:
            raise UnreadableImage(f"{source.name}: the file changed while it was read. Run again when it stands still.")
        return image

    def _remote(self, look: Look) -> Micrograph:
        look.is_whole = False  # until the server has answered
        system, path = self._system(look.source)
        try:
            look.stamp = version_of(system.info(path))
            data = system.cat_file(path)
        except FileNotFoundError:
            look.is_whole = True
            raise UnreadableImage(f"{look.source.name}: does not exist. Check the address.") from None
        look.is_whole = True
        look.sha256 = hashlib.sha256(data).hexdigest()
        return formats.decode(data, look.source.name)

    def _system(self, source: Source) -> "tuple[AbstractFileSystem, str]":
        """Return the file system of a remote source, the same for all threads, and the path in it."""
        scheme, _, _ = source.address.partition("://")
        with self._lock:
            if scheme not in self._systems:
                self._systems[scheme], _ = system_of(source.address)
            system = self._systems[scheme]
        return system, str(system._strip_protocol(source.address))


def _content(facts: os.stat_result) -> tuple[int, int, int]:
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _stamp(facts: os.stat_result) -> str:
    # the time of the last change of the inode cannot be set back, as that of the contents can
    return f"{facts.st_size}-{facts.st_mtime_ns}-{facts.st_ctime_ns}-{facts.st_ino}"


def _decoded(look: Look, number: int, size: int) -> Micrograph:
    if size > WHOLE_BYTES:
        look.sha256 = _digest(look.source)
        return formats.read(look.source.address, look.source.name)
    data = os.read(number, size)
    while len(data) < size and (more := os.read(number, size - len(data))):
        data += more
    look.sha256 = hashlib.sha256(data).hexdigest()
    return formats.decode(data, look.source.name)


def _digest(source: Source) -> str:
    with opened(source.address, source.name) as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
        return digest.hexdigest()


def _refuse_leaving(source: Source) -> None:
    """Raise UnreadableImage for a link by which a searched folder would give away what lies outside of it."""
    if source.root and os.path.islink(source.address):  # noqa: PTH114 -- called for each image
        target = os.path.realpath(source.address)
        root = os.path.realpath(source.root)
        if os.path.commonpath((root, target)) != root:
            raise UnreadableImage(
                f"{source.name}: a link that leads out of the folder, which is not followed. Name its target as a "
                f"source, or copy it."
            )
