"""A run's counters as Prometheus reads them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, start_http_server

from micro.decide.verdict import NG, OK, REVIEW
from micro.errors import BadSetting
from micro.line.watcher import Depth, Drift, Ended, Event, Paused, Resumed, SetAside, Started, Stored

LOOPBACK = "127.0.0.1"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)


class Metrics:
    """A watcher that counts; each has a registry of its own, so that two runs in one process do not add up."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._run = Info("micro_run", "what answers, and where", registry=registry)
        self._images = Counter("micro_images", "images with a result", ["state"], registry=registry)
        self._verdicts = Counter("micro_verdicts", "frames by verdict", ["verdict"], registry=registry)
        self._stages = Histogram(
            "micro_stage_seconds", "time of one image in a stage", ["stage"], buckets=SECONDS, registry=registry
        )
        self._latency = Histogram(
            "micro_latency_seconds", "from a whole file to a stored result", buckets=SECONDS, registry=registry
        )
        self._scores = Histogram("micro_score", "score of the frame's class", buckets=SCORES, registry=registry)
        self._queue = Gauge("micro_queue_depth", "images that have no result yet", ["place"], registry=registry)
        self._pauses = Counter("micro_pauses", "times when results could not be stored", registry=registry)
        self._paused = Gauge("micro_paused", "1 while results cannot be stored", registry=registry)
        self._running = Gauge("micro_running", "1 while a run works or waits for images", registry=registry)
        self._psi = Gauge(
            "micro_drift_psi", "population stability index against the bundle", ["statistic"], registry=registry
        )
        self._ks = Gauge("micro_drift_ks", "Kolmogorov-Smirnov distance", ["statistic"], registry=registry)
        self._drift = Gauge("micro_drift", "1 where a statistic has drifted", ["statistic"], registry=registry)
        for state in ("done", "quarantined"):
            self._images.labels(state)  # a rate needs the zero before the first
        for verdict in (OK, REVIEW, NG):
            self._verdicts.labels(verdict)

    def __call__(self, event: Event) -> None:
        """Count what happened."""
        match event:
            case Started():
                maker = event.identity.maker
                made_by = {"model": maker.model, "version": maker.model_version, "weights_sha256": maker.weights_sha256}
                self._run.info({**made_by, "device": event.device, "micro_version": event.identity.micro_version})
                self._running.set(1)
                if event.device.startswith("cuda"):
                    self._watch_memory(event.device)
            case Stored(found, receipt):
                self._images.labels("done").inc()
                if found.verdict is not None:
                    self._verdicts.labels(found.verdict).inc()
                if found.class_name is not None:
                    self._scores.observe(found.class_scores[found.class_name])
                for stage in ("read", "judge", "store"):
                    self._stages.labels(stage).observe(getattr(receipt, f"{stage}_seconds"))
                self._latency.observe(receipt.latency_seconds)
            case SetAside():
                self._images.labels("quarantined").inc()
            case Depth(waiting, in_hand):
                self._queue.labels("waiting").set(waiting)
                self._queue.labels("in_hand").set(in_hand)
            case Paused():
                self._pauses.inc()
                self._paused.set(1)
            case Resumed():
                self._paused.set(0)
            case Drift(shifts):
                for shift in shifts:
                    self._psi.labels(shift.statistic).set(shift.psi)
                    self._ks.labels(shift.statistic).set(shift.ks)
                    self._drift.labels(shift.statistic).set(shift.is_drift)
            case Ended():
                self._running.set(0)

    def _watch_memory(self, device: str) -> None:
        import torch

        memory = Gauge("micro_device_memory_bytes", "memory that torch holds on the device", registry=self.registry)
        memory.set_function(lambda: torch.cuda.memory_reserved(device))


@contextmanager
def served(metrics: Metrics, address: str) -> Iterator[int]:
    """Answer http://ADDRESS/metrics as long as the context is open; yield the port.

    address: PORT on this machine alone, or HOST:PORT, or [HOST]:PORT for IPv6; port 0 takes a free one. Whoever reaches
    the address can read the counters: there is no password.

    Raises BadSetting when it is no address, or taken.
    """
    matched = re.fullmatch(r"(?:(?P<host>[^:\[\]]+|\[[^\[\]]+\]):)?(?P<port>\d{1,5})", address)
    if matched is None or int(matched["port"]) > 65535:
        raise BadSetting(f"--metrics {address}: write it as PORT or HOST:PORT, such as 9100 or 0.0.0.0:9100.")
    host = (matched["host"] or LOOPBACK).strip("[]")
    try:
        server, thread = start_http_server(int(matched["port"]), host, metrics.registry)
    except OSError as fault:
        raise BadSetting(f"--metrics {address}: cannot listen there ({fault.strerror}). Take another port.") from fault
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
