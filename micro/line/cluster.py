"""One run on many machines: a station in every worker of a Ray cluster, all of them at one ledger."""

from __future__ import annotations

import logging
import math
import os
import pickle
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from micro import bundle as bundles
from micro import tasks
from micro.bundle import Bundle
from micro.drift import Reference, statistics
from micro.errors import MicroError, RunRefused
from micro.line.arrivals import Arrivals, Listed
from micro.line.identity import Identity
from micro.line.ledger import Ledger
from micro.line.patience import Patience
from micro.line.sources import Source
from micro.line.station import MOST_FAILURES, Judge, Manners, Station
from micro.line.watcher import Depth, Event, Looked, Read, RunSummary, Stored, Watcher, tell
from micro.recipe import Recipe
from micro.regions import Maker, Progress, Regions
from micro.tasks import TaskSettings

T = TypeVar("T")

AUTO = "auto"
# Images that a worker is given at once: few enough that all workers end together, many enough to fill the engine.
BATCH = 32
# Ray's readers need a processor too: workers that take every one of them starve the readers, and nothing ever begins.
SHARE_OF_PROCESSORS = 0.5
PATIENCE_S = 10.0


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster as whoever answers in a run.

    address: of a running cluster; "auto": the one that runs on this machine, or a new one of this machine alone.
    open_engine: makes the engine of a worker, on that worker, with so many processors; `engine_of` for one.
    workers: how many engines; one a GPU, or one a machine where there is none, if None.
    takes_cards: whether the engines run on GPUs where there are some.
    """

    address: str
    open_engine: Callable[[int], Judge]
    maker: Maker
    settings: TaskSettings = field(default_factory=TaskSettings)
    reference: Reference | None = None
    workers: int | None = None
    takes_cards: bool = True

    @classmethod
    def of(cls, chosen: Bundle, recipe: Recipe, device: str, address: str, workers: int | None) -> Self:
        """Return the cluster whose workers answer with a bundle; device: what each runs on, as for an Engine."""
        card = chosen.card
        is_installed = bundles.installed().get(recipe.model) == chosen.folder
        model = recipe.model if is_installed else str(chosen.folder.absolute())
        return cls(
            address=address,
            open_engine=partial(engine_of, model, recipe, device),
            maker=Maker(card.name, card.version, card.weights_sha256),
            settings=tasks.settings_of(tasks.of(card), card, recipe),
            reference=chosen.reference(),
            workers=workers,
            takes_cards=device != "cpu",
        )

    @property
    def device(self) -> str:
        """What the record of a run says of it."""
        return f"the workers of a Ray cluster ({self.address})"


@dataclass(frozen=True)
class Job:
    """What every worker of a run is told before its first image; paths are the same on all machines.

    store: the folder of a ledger that all workers reach by this path, or the address of a database.
    """

    identity: Identity
    store: Path | str
    out: Path
    manners: Manners


def engine_of(model: str, recipe: Recipe, device: str, threads: int) -> Judge:
    """Return the engine of a worker; model: name of an installed bundle, or its folder."""
    import torch

    from micro.engine import Engine

    torch.set_num_threads(threads)  # Ray leaves a worker one, whatever there is
    return Engine(bundles.load(model), recipe, device)


class Crew:
    """The stations of a cluster, with the face of one.

    Ray begins a batch anew when its worker, or the whole machine, is gone; the ledger sees to it that an image whose
    result was stored before keeps it. What a lost worker would have told the watchers is lost with it.
    """

    def __init__(
        self, cluster: Cluster, ledger: Ledger, job: Job, *, watchers: Sequence[Watcher], stop: threading.Event
    ) -> None:
        self._cluster = cluster
        self._job = job
        self._watchers = watchers
        self._stop = stop
        self._patience = Patience(
            job.out, job.manners.give_up_after_s, watchers, stop, ledger.reconnect, progress=self._progress
        )
        self._counts: Counter[str] = Counter()
        self._failures: dict[str, str] = {}
        self._images = 0
        self._began = time.monotonic()

    def patiently(self, action: Callable[[], T]) -> Generator[Progress, None, T]:
        """Return what an action returns, as soon as the disk and the database let it; see `Patience.tries`."""
        return self._patience.tries(action)

    def summary(self) -> RunSummary:
        """Return how far the work is."""
        names = ("done", "unchanged", "quarantined", "ng")
        return RunSummary(
            images=self._images,
            **{name: self._counts[name] for name in names},
            seconds=time.monotonic() - self._began,
            failures=dict(self._failures),
        )

    def steps(self, arrivals: Arrivals) -> Generator[Progress, None, None]:
        """Have all sources judged, yielding after each image.

        Raises RunRefused when the cluster cannot be reached, or a worker cannot do its work at all.
        """
        if arrivals.total is None:
            raise RunRefused("--watch and --cluster do not go together: start a worker a machine with one --store.")
        sources: list[Source] = []
        while not arrivals.is_over():
            sources += [arrival.source for arrival in arrivals.take(arrivals.total)]
        self._images = len(sources)
        if not sources:
            return
        with _connected(self._cluster.address) as ray:
            refuse_split_ledger(ray, self._job.store)
            for answer in _answers(ray, self._job, self._cluster, sources):
                summary, events = pickle.loads(answer)
                yield from self._take(summary, events)
                if self._stop.is_set():
                    return

    def _take(self, summary: RunSummary, events: Sequence[Event]) -> Generator[Progress, None, None]:
        """Count a batch, and tell the watchers of it."""
        for name in ("done", "unchanged", "quarantined", "ng"):
            self._counts[name] += getattr(summary, name)
        for name, reason in summary.failures.items():
            if len(self._failures) < MOST_FAILURES:
                self._failures[name] = reason
        for event in events:
            tell(self._watchers, event)
        ended = self._counts["done"] + self._counts["quarantined"]
        tell(self._watchers, Depth(waiting=self._images - ended, in_hand=0))
        yield self._progress(f"{summary.images} images by a worker")

    def _progress(self, note: str) -> Progress:
        return Progress(self._counts["done"] + self._counts["quarantined"], self._images, note)


class Worker:
    """What runs on the cluster: one engine, one ledger, and a station for every batch."""

    def __init__(self, job: Job, open_engine: Callable[[int], Judge], threads: int) -> None:
        self._job = job
        self._engine = open_engine(threads)
        if self._engine.maker != job.identity.maker:
            raise RunRefused(
                f"{job.identity.maker.model}: other weights lie on a machine of the cluster. Install the same bundle."
            )
        self._ledger = Ledger(job.store, job.identity, job.out)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[bytes]]:
        """Bring a batch of sources to their results, and return what there is to tell of them."""
        told: list[Event] = []
        lock = threading.Lock()

        def listen(event: Event) -> None:
            slim = _slim(event)
            with lock:
                told.append(slim)

        rows = zip(*(batch[name].tolist() for name in ("name", "address", "root")), strict=True)
        station = Station(self._engine, self._ledger, self._job.out, self._job.manners, watchers=[listen])
        for _ in station.steps(Listed([Source(*row) for row in rows], self._job.manners.settle_s)):
            pass
        events = [event for event in told if not isinstance(event, Depth)]
        return {"answer": [pickle.dumps((station.summary(), events))]}


def _slim(event: Event) -> Event:
    """Return an event as it travels: what was measured on the pixels instead of them."""
    match event:
        case Read(image):
            return Looked(statistics(image))
        case Stored(found, receipt) if found.regions is not None:
            regions = Regions(np.zeros((1, 1), np.int32), found.regions.class_names, found.regions.scores)
            return Stored(replace(found, regions=regions, table={}), receipt)
    return event


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Give the package ray, connected to a cluster, and let go of the cluster in the end."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its maker of every run
    try:
        import ray
        import ray.data
    except ImportError as fault:
        raise RunRefused("--cluster needs Ray. pip install 'micro[ray]'") from fault
    is_ours = not ray.is_initialized()
    try:
        if address != AUTO:
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), PATIENCE_S).close()  # Ray itself would try for a quarter hour
        if is_ours:
            place = None if address == AUTO else address
            with _own_signals():
                ray.init(place, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as fault:
        raise RunRefused(f"--cluster {address}: no Ray cluster answers there ({fault}). Pass HOST:PORT.") from fault
    try:
        yield ray
    finally:
        if is_ours:
            ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what this process does when it is asked to stop: Ray would end it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def refuse_split_ledger(ray: Any, store: Path | str) -> None:
    """Raise RunRefused where machines would write into one SQLite file, which network drives do not bear."""
    hosts = {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
    if isinstance(store, Path) and len(hosts) > 1:
        raise RunRefused(
            f"The cluster has {len(hosts)} machines, which cannot share a ledger in a file. Pass --store with the "
            f"address of a PostgreSQL database."
        )


def _answers(ray: Any, job: Job, cluster: Cluster, sources: Sequence[Source]) -> Iterator[bytes]:
    """Yield what the workers answer, a batch at a time, in the order in which they are done."""
    there = ray.cluster_resources()
    processors = there.get("CPU", 1.0)
    cards = there.get("GPU", 0.0) if cluster.takes_cards else 0.0
    parts = math.ceil(len(sources) / BATCH)
    workers = min(cluster.workers or int(cards) or sum(node["Alive"] for node in ray.nodes()), parts)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [{"name": source.name, "address": source.address, "root": source.root} for source in sources]
    batches = ray.data.from_items(rows, override_num_blocks=parts).map_batches(
        Worker,
        fn_constructor_args=(job, cluster.open_engine, max(1, int(processors / workers))),
        batch_size=BATCH,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=SHARE_OF_PROCESSORS * min(1.0, processors / workers),
        num_gpus=1 / math.ceil(workers / cards) if cards else 0,
    )
    try:
        for batch in batches.iter_batches(batch_size=None, prefetch_batches=0):
            yield from batch["answer"]
    except ray.exceptions.RayError as fault:
        cause = getattr(fault, "cause", None)
        if isinstance(cause, MicroError):
            raise RunRefused(str(cause)) from fault
        raise RunRefused(f"--cluster {cluster.address}: the cluster cannot go on ({fault}).") from fault
