"""Where the pixels of a folder are kept: in memory, and beyond a limit in a temporary file."""

import mmap
import tempfile
import weakref
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray

KEPT_BYTES = 2**30
Scalar = TypeVar("Scalar", bound=np.generic)


class Shelf:
    """Arrays to be read again and again in any order, of which only what is looked at takes memory.

    The first KEPT_BYTES stay as they are. Further ones are written to a file that has no name and vanishes with the
    process, however that ends; what is cut out of them is read from there.
    """

    def __init__(self) -> None:
        self._kept = 0
        self._file: IO[bytes] | None = None

    def keep(self, array: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return an array with the same values, read-only where it lies in the file."""
        if self._kept + array.nbytes <= KEPT_BYTES:
            self._kept += array.nbytes
            return array
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="micro-")  # noqa: SIM115  arrays keep its content when it closes
            weakref.finalize(self, self._file.close)
        at = -(-self._file.seek(0, 2) // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        self._file.seek(at)
        self._file.write(np.ascontiguousarray(array).data)
        self._file.flush()
        mapped: NDArray[Scalar] = np.memmap(self._file, array.dtype, "r", at, array.shape)
        return mapped
