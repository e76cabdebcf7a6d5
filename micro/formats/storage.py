"""Files opened so that every failure is a sentence, and written so that no reader ever sees half of one."""

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from micro.errors import UnreadableImage

# a pipe would wait for ever for a writer
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@contextmanager
def descriptor(path: Path | str, name: str) -> Iterator[tuple[int, os.stat_result]]:
    """Open a file for reading, and give its descriptor with what the system says of it.

    Raises UnreadableImage where that fails, also for folders, pipes and devices.
    """
    try:
        number = os.open(path, _FLAGS)
    except FileNotFoundError:
        what = "is a link to a file that is gone" if Path(path).is_symlink() else "does not exist"
        raise UnreadableImage(f"{name}: {what}. Check the path.") from None
    except PermissionError:
        raise UnreadableImage(f"{name}: no permission to read the file. Ask its owner, or copy it.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableImage(f"{name}: the file cannot be opened ({reason}). Check the path and the disk.") from error
    try:
        facts = os.fstat(number)
        if stat.S_ISDIR(facts.st_mode):
            raise UnreadableImage(f"{name}: this is a folder, not an image. Name a file in it, or scan the folder.")
        if not stat.S_ISREG(facts.st_mode):
            raise UnreadableImage(f"{name}: this is not a regular file. Copy the image to a file first.")
        yield number, facts
    except OSError as error:
        raise UnreadableImage(
            f"{name}: reading failed ({error.strerror or error}). Check the disk or the network."
        ) from error
    finally:
        os.close(number)


@contextmanager
def opened(path: Path | str, name: str) -> Iterator[FileIO]:
    """Open a file for reading as `descriptor` does; it is not buffered, since most are read whole, at once."""
    with descriptor(path, name) as (number, _), FileIO(number, closefd=False) as file:
        yield file


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; when done it takes the place of `path`, whole."""
    # short, since the name of the file itself may already be as long as a name can be
    part = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
