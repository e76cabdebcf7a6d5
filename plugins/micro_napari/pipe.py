"""Values through a pipe between two of our own processes."""

import pickle
import struct
from typing import IO, Any


def put(sink: IO[bytes], value: object) -> None:
    """Write one value; arrays go as they lie in memory, without a copy."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    sink.write(struct.pack(f"<I{len(parts)}Q", len(parts), *(part.nbytes for part in parts)))
    for part in parts:
        sink.write(part)
    sink.flush()


def take(source: IO[bytes]) -> Any:
    """Read one value that `put` wrote; raise EOFError when there are no more."""
    (count,) = struct.unpack("<I", _exactly(source, 4))
    sizes = struct.unpack(f"<{count}Q", _exactly(source, 8 * count))
    head, *buffers = [_exactly(source, size) for size in sizes]
    return pickle.loads(head, buffers=buffers)


def _exactly(source: IO[bytes], count: int) -> bytearray:
    data = bytearray(count)
    view = memoryview(data)
    done = 0
    while done < count:
        got = source.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise EOFError
        done += got
    return data
