"""A real Ray cluster on this machine: several processes, some of which are killed."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
import toy_line
from postgres import server  # noqa: F401 -- a fixture
from small_bundles import SMALL_CLASSIFIER, make_bundle
from toy_line import RECIPE, Toy, drained, folder_of, rows

from micro.errors import RunRefused
from micro.line import schema
from micro.line.arrivals import Listed
from micro.line.cluster import Cluster, refuse_split_ledger
from micro.line.run import Place, run_steps
from micro.line.sources import find
from micro.line.station import Manners
from micro.line.watcher import Event, Looked, SetAside, Stored
from micro.micrograph import Item
from micro.regions import Prediction, Quarantined

pytestmark = [
    pytest.mark.slow,
    # Ray reads settings of its own that it calls deprecated
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),
]
IMAGES = 600


class SlowToy(Toy):
    """Takes its time, so that there is a time to be killed in."""

    def stream(self, items: Iterable[Item]) -> Iterator[Prediction | Quarantined]:
        for result in super().stream(items):
            time.sleep(0.02)
            yield result


def open_toy(threads: int) -> SlowToy:
    return SlowToy()


def open_other(threads: int) -> Toy:
    from micro.regions import Maker

    return Toy(maker=Maker("toy", "1.0.0", "1" * 64))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Three nodes, each a raylet with a processor of its own."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # on a busy machine workers would hardly begin
    ray = pytest.importorskip("ray")
    from ray import cloudpickle
    from ray.cluster_utils import Cluster as Nodes

    for module in (toy_line, sys.modules[__name__]):
        cloudpickle.register_pickle_by_value(module)  # the workers have micro, and not its tests
    facts = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    nodes = Nodes(initialize_head=True, head_node_args=facts)
    for _ in range(2):
        nodes.add_node(**{key: value for key, value in facts.items() if key != "include_dashboard"})
    try:
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()


def workers() -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] and process.info["cmdline"][0].startswith("ray::MapWorker")
    ]


def counted(store: Path | str) -> Counter[tuple[str, str]]:
    """Return how many rows the ledger has of each image, with its state."""
    engine = schema.connect(store)
    with engine.connect() as connection:
        found = Counter(map(tuple, connection.execute(sa.select(schema.images.c.name, schema.images.c.state))))
    engine.dispose()
    return found


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_workers_and_a_machine_die_and_no_image_is_lost_or_counted_twice(
    cluster: Any, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = folder_of(tmp_path / "in", IMAGES)
    (folder / "bad.png").touch()
    told: list[Event] = []
    engine = Cluster(cluster.address, open_toy, Toy().maker, workers=3)
    store: str | None = None if kind == "sqlite" else request.getfixturevalue("server").fresh()
    place = Place(tmp_path / "out", store)
    steps = run_steps(
        Listed(find([str(folder)]), 0.0), engine, RECIPE, place, Manners(settle_s=0.0), watchers=[told.append]
    )
    killed = 0
    with closing(steps):
        for number, step in enumerate(steps):
            assert step.total == IMAGES + 1
            if number == 1:
                there = workers()
                assert len(there) == 3
                there[0].kill()
                killed += 1
            if number == 4:
                raylet = cluster.list_all_nodes()[-1].all_processes["raylet"][0].process
                raylet.kill()
                killed += 1
    assert killed == 2
    assert counted(store or tmp_path / "out") == Counter(
        {
            **{(f"{number:03}.png", "done"): 1 for number in range(IMAGES)},
            ("bad.png", "quarantined"): 1,
        }
    )
    table = rows(tmp_path / "out" / "images.csv")
    assert len(table) == IMAGES + 1
    assert [row["n_regions"] for row in table if row["state"] == "done"] == [str(n % 5) for n in range(IMAGES)]
    assert all((tmp_path / "out" / row["labels"]).is_file() for row in table if row["state"] == "done")
    stored = Counter(event.found.image for event in told if isinstance(event, Stored))
    assert set(stored.values()) == {1}
    assert len(stored) > IMAGES / 2, "only what dead workers had to tell is lost"
    assert sum(isinstance(event, Looked) for event in told) >= len(stored)
    assert [event.name for event in told if isinstance(event, SetAside)] == ["bad.png"]


def test_a_second_run_finds_everything_done_and_a_worker_with_other_weights_ends_it(
    cluster: Any, tmp_path: Path
) -> None:
    sources = find([str(folder_of(tmp_path / "in", 40))])
    place = Place(tmp_path / "out")
    first = drained(run_steps(Listed(sources), Cluster(cluster.address, open_toy, Toy().maker), RECIPE, place))
    assert (first.images, first.done, first.unchanged) == (40, 40, 0)
    again = drained(run_steps(Listed(sources), Cluster(cluster.address, open_toy, Toy().maker), RECIPE, place))
    assert (again.images, again.done, again.unchanged) == (40, 40, 40)
    stranger = Cluster(cluster.address, open_other, Toy().maker)
    with pytest.raises(RunRefused, match="other weights lie on a machine"):
        drained(run_steps(Listed(sources), stranger, RECIPE, Place(tmp_path / "other")))


def test_on_one_machine_the_command_starts_a_cluster_of_its_own_and_ends(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    made = make_bundle(tmp_path / "toy", SMALL_CLASSIFIER, "defects")
    folder = folder_of(tmp_path / "in", 200)
    command = [sys.executable, "-m", "micro", "predict", str(folder), "--model", str(made.folder), "--out"]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    # all processors of the machine are given to workers: they must leave some to Ray's own readers
    more = ["--cluster", "auto", "--workers", str(os.cpu_count()), "--device", "cpu"]
    subprocess.run([*command, str(tmp_path / "out"), *more], check=True, timeout=900, env=environment)
    alone = ["--device", "cpu"]
    subprocess.run([*command, str(tmp_path / "alone"), *alone], check=True, timeout=300, env=environment)
    keys = ("image", "sha256", "class", "score", "verdict", "state")
    # a third run is asked to stop as soon as it has begun, and goes on to the same end
    third = [*command, str(tmp_path / "third"), *more, "--progress", "json"]
    with subprocess.Popen(third, stdout=subprocess.PIPE, env=environment, text=True) as begun:
        assert begun.stdout is not None
        assert begun.stdout.readline()
        begun.terminate()
        assert begun.wait(timeout=600) == 130
    record = json.loads((tmp_path / "third" / "run.json").read_text(encoding="utf-8"))
    assert record["state"] == "interrupted"
    subprocess.run(third, check=True, timeout=900, env=environment)
    assert [[row[key] for key in keys] for row in rows(tmp_path / "third" / "images.csv")] == [
        [row[key] for key in keys] for row in rows(tmp_path / "alone" / "images.csv")
    ]
    here, there = (rows(tmp_path / name / "images.csv") for name in ("alone", "out"))
    assert [[row[key] for key in keys] for row in here] == [[row[key] for key in keys] for row in there]


def test_machines_do_not_share_a_ledger_in_a_file(tmp_path: Path) -> None:
    nodes = [{"NodeManagerHostname": name, "Alive": alive} for name, alive in (("a", True), ("b", True), ("c", False))]
    ray = SimpleNamespace(nodes=lambda: nodes)
    refuse_split_ledger(ray, "postgresql+pg8000://micro@db/micro")
    with pytest.raises(RunRefused, match="2 machines"):
        refuse_split_ledger(ray, tmp_path)
    nodes.pop(1)
    refuse_split_ledger(ray, tmp_path)


def test_an_address_at_which_no_cluster_answers_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    engine = Cluster("127.0.0.1:1", open_toy, Toy().maker)
    sources = find([str(folder_of(tmp_path / "in", 1))])
    with pytest.raises(RunRefused, match="no Ray cluster answers"):
        drained(run_steps(Listed(sources), engine, RECIPE, Place(tmp_path / "out")))
