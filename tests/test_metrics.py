import socket
import urllib.request

import pytest
from line_events import set_aside, started, stored, summary
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from micro.drift import Shift
from micro.errors import BadSetting
from micro.line.metrics import Metrics, served
from micro.line.watcher import Depth, Drift, Ended, Paused, Resumed


def scraped(address: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    with urllib.request.urlopen(address, timeout=5) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_scrape_finds_what_a_run_did() -> None:
    metrics = Metrics()
    events = [
        started(),
        stored(verdict="NG"),
        stored(verdict="OK", score=0.97),
        set_aside(),
        Depth(7, 2),
        Paused("full"),
    ]
    for verdict in ("OK", "REVIEW", "NG"):
        assert metrics.registry.get_sample_value("micro_verdicts_total", {"verdict": verdict}) == 0
    for event in events:
        metrics(event)
    shifts = tuple(Shift(name, 50, 0.9, 0.5, 1e-9, 0.5, 0.4, name == "score") for name in ("score", "width_px"))
    metrics(Drift(shifts, has_changed=True))
    with served(metrics, "0") as port:
        seen = scraped(f"http://127.0.0.1:{port}/metrics")
        metrics(Resumed(1.0))
        metrics(Ended("finished", summary()))
        later = scraped(f"http://127.0.0.1:{port}/metrics")
    assert seen["micro_images_total", (("state", "done"),)] == 2
    assert seen["micro_images_total", (("state", "quarantined"),)] == 1
    assert seen["micro_verdicts_total", (("verdict", "NG"),)] == 1
    assert seen["micro_verdicts_total", (("verdict", "OK"),)] == 1
    assert seen["micro_queue_depth", (("place", "waiting"),)] == 7
    assert seen["micro_queue_depth", (("place", "in_hand"),)] == 2
    for stage, below, above in (("read", "0.001", "0.001"), ("judge", "0.025", "0.05"), ("store", "0.001", "0.0025")):
        assert seen["micro_stage_seconds_count", (("stage", stage),)] == 2
        assert seen["micro_stage_seconds_bucket", (("le", above), ("stage", stage))] == 2
        assert seen["micro_stage_seconds_bucket", (("le", below), ("stage", stage))] == (2 if below == above else 0)
    assert seen["micro_latency_seconds_sum", ()] == pytest.approx(0.08)
    assert seen["micro_score_bucket", (("le", "0.8"),)] == 1
    assert seen["micro_drift", (("statistic", "score"),)] == 1
    assert seen["micro_drift", (("statistic", "width_px"),)] == 0
    assert seen["micro_drift_psi", (("statistic", "score"),)] == 0.9
    assert (seen["micro_paused", ()], later["micro_paused", ()], later["micro_pauses_total", ()]) == (1, 0, 1)
    assert (seen["micro_running", ()], later["micro_running", ()]) == (1, 0)
    assert seen["process_resident_memory_bytes", ()] > 1e6
    (info,) = [dict(labels) for name, labels in seen if name == "micro_run_info"]
    assert (info["model"], info["weights_sha256"], info["device"]) == ("toy", "0" * 64, "cpu")


def test_two_runs_of_one_process_do_not_add_up_and_leave_nothing_behind() -> None:
    before = set(REGISTRY._names_to_collectors)
    one, other = Metrics(), Metrics()
    one(stored())
    assert one.registry.get_sample_value("micro_images_total", {"state": "done"}) == 1
    assert other.registry.get_sample_value("micro_images_total", {"state": "done"}) == 0
    assert set(REGISTRY._names_to_collectors) == before


def test_the_endpoint_is_on_loopback_unless_told_otherwise_and_ends_with_the_run() -> None:
    metrics = Metrics()
    with served(metrics, "0") as port:
        assert scraped(f"http://127.0.0.1:{port}/metrics")
        host = socket.gethostbyname(socket.gethostname())
        if not host.startswith("127."):
            with pytest.raises(ConnectionRefusedError), socket.create_connection((host, port), timeout=5):
                pass
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    with served(metrics, "0.0.0.0:0") as port:
        assert scraped(f"http://{host}:{port}/metrics")


@pytest.mark.parametrize("address", ["", "port", "70000", ":9100", "host:", "1.2.3.4", "a b:9100:1"])
def test_what_is_no_address_is_refused_with_an_example(address: str) -> None:
    with pytest.raises(BadSetting, match=r"0\.0\.0\.0:9100"), served(Metrics(), address):
        pass


def test_a_port_in_use_is_refused_with_the_reason() -> None:
    with served(Metrics(), "0") as port, pytest.raises(BadSetting, match="in use"), served(Metrics(), str(port)):
        pass


@pytest.mark.gpu
def test_the_memory_of_the_device_is_measured() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    metrics = Metrics()
    metrics(started("cuda:0"))
    block = torch.zeros(2**20, device="cuda:0")
    assert (metrics.registry.get_sample_value("micro_device_memory_bytes") or 0) >= block.nbytes
