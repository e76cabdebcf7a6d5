"""A line that reads from a real S3 server on loopback."""

import hashlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_line import RECIPE, Toy, drained, draw, listed, rows

from micro.errors import MicroError
from micro.line.arrivals import Watched
from micro.line.reading import Look, Reader
from micro.line.run import Place, run_steps
from micro.line.sources import Search, find
from micro.line.station import Manners

SERVER = """
import sys
from moto.server import main
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    pytest.importorskip("s3fs", reason="the extra `s3` is not installed")
    pytest.importorskip("moto", reason="moto is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SERVER, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                with urllib.request.urlopen(address, timeout=5):
                    break
            except OSError:
                time.sleep(0.1)
        yield address
        server.kill()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket, reached as a user reaches one: by the environment."""
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    system = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    system.mkdir("line")
    yield system
    system.rm("line", recursive=True)


def put(system: Any, key: str, bars: int, tmp_path: Path) -> bytes:
    draw(tmp_path / "drawn.png", bars)
    data = (tmp_path / "drawn.png").read_bytes()
    system.pipe(f"line/{key}", data)
    return data


def test_a_bucket_is_judged_like_a_folder_and_a_replaced_object_is_a_new_image(bucket: Any, tmp_path: Path) -> None:
    put(bucket, "day1/a.png", 1, tmp_path)
    put(bucket, "day1/deep/b.png", 2, tmp_path)
    put(bucket, "day1/<script>.png", 3, tmp_path)
    put(bucket, "day2/c.png", 4, tmp_path)
    bucket.pipe("line/day1/notes.txt", b"none")
    bucket.pipe("line/day1/torn.png", b"\x89PNG")
    out = Place(tmp_path / "out")
    manners = Manners(settle_s=0.0, give_up_after_s=0.0)
    summary = drained(run_steps(listed("s3://line/day1"), Toy(), RECIPE, out, manners))
    assert (summary.done, summary.quarantined) == (3, 1)
    table = {row["image"]: row for row in rows(tmp_path / "out" / "images.csv")}
    assert {name: row["n_regions"] for name, row in table.items()} == {
        "<script>.png": "3",
        "a.png": "1",
        "deep/b.png": "2",
        "torn.png": "",
    }
    data = put(bucket, "day1/a.png", 4, tmp_path)
    engine = Toy()
    summary = drained(run_steps(listed("s3://line/day1"), engine, RECIPE, out, manners))
    assert engine.read == ["a.png"]
    assert summary.unchanged == 2
    of_name = [row for row in rows(tmp_path / "out" / "images.csv") if row["image"] == "a.png"]
    assert [row["n_regions"] for row in of_name] == ["1", "4"]
    assert of_name[1]["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.slow
def test_patterns_and_single_objects_are_sources_too(bucket: Any, tmp_path: Path) -> None:
    for key in ("day1/a.png", "day1/b.tif", "day2/c.png"):
        put(bucket, key, 1, tmp_path)
    assert [source.name for source in find(["s3://line/*/*.png"])] == ["day1/a.png", "day2/c.png"]
    (source,) = find(["s3://line/day2/c.png"])
    assert source.name == "c.png"
    assert Reader(0.5).read(Look(source)).width_px == 32
    with pytest.raises(MicroError, match="no such file or folder"):
        find(["s3://line/day9"])


@pytest.mark.slow
def test_a_watched_bucket_gives_objects_as_they_come(bucket: Any, tmp_path: Path) -> None:
    put(bucket, "day1/a.png", 1, tmp_path)
    coming = Watched(Search(["s3://line/day1"]), 0.2, poll_s=0.2)
    steps = run_steps(coming, Toy(), RECIPE, Place(tmp_path / "out"), Manners(settle_s=0.2))
    try:
        assert next(steps).note == "a.png"
        put(bucket, "day1/b.png", 2, tmp_path)
        assert next(steps).note == "b.png"
        put(bucket, "day1/a.png", 3, tmp_path)
        assert next(steps).note == "a.png"
    finally:
        steps.close()
        coming.close()
    assert [row["n_regions"] for row in rows(tmp_path / "out" / "images.csv")] == ["1", "3", "2"]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["counts"]["done"] == 3
