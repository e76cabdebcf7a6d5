"""Small bundles with random weights for tests: real networks, made in a blink."""

from pathlib import Path

import torch

from micro import bundle, networks, training
from micro.card import Card, DataSource, NetworkSpec
from micro.folder import AnnotatedFolder

SMALL_UNET = NetworkSpec(
    kind="unet",
    encoder_name="resnet18",
    in_channels=1,
    outputs=("inside", "depth"),
    decoder_channels=(16, 8, 8),
    halo_px=64,
)
SMALL_CLASSIFIER = NetworkSpec(
    kind="classifier",
    encoder_name="mobilenet_v3_small",
    in_channels=1,
    outputs=("clean", "crack", "scratch"),
    input_px=64,
)


def make_bundle(folder: Path, spec: NetworkSpec = SMALL_UNET, task: str = "grains", **card: object) -> bundle.Bundle:
    """Write a bundle whose network has seeded random weights; keyword arguments change its card."""
    torch.manual_seed(3)
    network = networks.build(spec).eval()
    kind = "segmenter" if spec.kind == "unet" else "classifier"
    weights = {f"{kind}.{name}": value.numpy() for name, value in network.state_dict().items()}
    facts = {
        "name": folder.name,
        "version": "0.1.0",
        "task": task,
        "summary": "Finds nothing in particular: random weights.",
        "channels": "grey" if spec.in_channels == 1 else "rgb",
        "classes": spec.outputs,
        kind: spec,
        "weights_sha256": "0" * 64,
        "licence": "BSD-3-Clause",
        "data": (DataSource(name="none", images=0, licence="none", role="none"),),
        "scores": (),
        "limits": (),
        "command": "none",
    }
    return bundle.save(folder, Card.model_validate(facts | card), weights)


def trained(plan: training.TrainingPlan, folder: AnnotatedFolder, out: Path) -> bundle.Bundle:
    """Train by a plan to its end."""
    steps = training.train_steps(plan, folder, out, training.Making("made", training.About(), "micro train"))
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            made: bundle.Bundle = stop.value.bundle
            return made
