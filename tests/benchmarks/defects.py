"""All networks that name frames in one table: python -m tests.benchmarks.defects FOLDER --out OUT [--networks a,b].

Each network and seed is one row, trained and measured in folds like a bundle and kept in OUT; the same command does
what is missing and goes on with a training that was stopped. Speed is that of the network as the engine runs it, on
this machine's cores; take it on an idle one.
"""

import argparse
import json
import shutil
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from micro import folder, networks, training, trial
from micro.bundle import Bundle
from micro.networks.fast import accelerate

NETWORKS = (
    *("lenet5", "alexnet", "lenet-alexnet", "resnet18", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny"),
    "shufflenet_v2_x1_0",
)
BATCHES = (1, 64)
SECONDS = 3.0


def row(annotated: folder.AnnotatedFolder, network: str, seed: int, asked: argparse.Namespace) -> dict[str, Any]:
    """Train and measure one network with one seed, or read what an earlier call found."""
    place: Path = asked.out / f"{network}-{seed}"
    kept = place.with_suffix(".json")
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    plan = training.plan(annotated, "defects", 1, seed=seed, network=network, folds=asked.folds)
    plan = plan.model_copy(update={"steps": asked.steps})
    making = training.Making("row", training.About(), "python -m tests.benchmarks.defects")
    made = finished(training.train_steps(plan, annotated, place, making, resume=True), f"{network}, seed {seed}")
    score = trial.kept_answers(made).class_score()
    found = {"network": network, "seed": seed, "steps": asked.steps, "accuracy": score.accuracy.value}
    found |= {"macro_f1": score.macro_f1.value, **facts(made)}
    kept.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(place)
    return found


def finished(steps: Any, name: str) -> Bundle:
    while True:
        try:
            print(f"{name}: {next(steps).note}", flush=True)
        except StopIteration as stop:
            made: Bundle = stop.value.bundle
            return made


def facts(made: Bundle) -> dict[str, float]:
    """Return how large the network is, and how many frames a second it names at each batch."""
    spec = made.card.classifier
    assert spec is not None
    assert spec.input_px is not None
    network = networks.build(spec).eval()
    fast = accelerate(network)
    found = {"parameters": float(sum(value.numel() for value in network.parameters()))}
    for batch in BATCHES:
        frames = torch.randn(batch, spec.in_channels, spec.input_px, spec.input_px).to(
            memory_format=torch.channels_last
        )
        done, began = -1, 0.0
        with torch.inference_mode():
            while done < 1 or time.perf_counter() - began < SECONDS:
                began = time.perf_counter() if done < 0 else began  # the first batch warms up
                fast(frames)
                done += 1
        found[f"images_a_second_{batch}"] = done * batch / (time.perf_counter() - began)
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Return one line a network: means over the seeds, and from where to where they lie."""
    by_network: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in rows:
        by_network[each["network"]].append(each)
    lines = [
        "| network | seeds | accuracy | macro-F1 | parameters | images/s, batch 1 | batch 64 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, of_seeds in by_network.items():
        cells = [name, str(len(of_seeds))]
        for what in ("accuracy", "macro_f1"):
            values = [each[what] for each in of_seeds]
            cells.append(f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        cells.append(f"{of_seeds[0]['parameters'] / 1e6:.2f} M")
        cells += [f"{np.median([each[f'images_a_second_{batch}'] for each in of_seeds]):.0f}" for batch in BATCHES]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.defects", description=__doc__)
    parser.add_argument("folder", type=Path, help="one folder a class")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1037, help="of each training; those of sheet-steel")
    asked = parser.parse_args(arguments)
    annotated = folder.read(asked.folder)
    asked.out.mkdir(parents=True, exist_ok=True)
    seeds, names = range(asked.seeds), asked.networks.split(",")
    print(table([row(annotated, network, seed, asked) for seed in seeds for network in names]))


if __name__ == "__main__":
    main()
