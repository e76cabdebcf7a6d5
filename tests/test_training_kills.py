"""Training that is killed again and again ends with the weights of training that nobody disturbed."""

import multiprocessing
import os
import signal
import time

import cv2
import numpy as np
import pytest
import torch

from micro import bundle, folder, training

KILLS = 20


def train(root, out):
    """Train a small plan to its end, from wherever it lies; for a process of its own."""
    torch.set_num_threads(1)
    import micro.training.loop as loop

    loop.STEPS_AN_EPOCH = 2
    loop.choose_halo = lambda *_: 16
    annotated = folder.read(root)
    plan = training.plan(annotated, "grains", 1)
    small = plan.network.model_copy(update={"decoder_channels": (8, 8, 8)})
    plan = plan.model_copy(update={"network": small, "steps": 120, "batch": 2, "crop_px": 64})
    making = training.Making("made", training.About(), "micro train")
    for _ in training.train_steps(plan, annotated, out, making, resume=True):
        pass


def drawn(root):
    labels = np.kron(np.arange(1, 13).reshape(3, 4), np.ones((32, 32))).astype(np.uint16)
    for number in range(4):
        image = np.random.default_rng(number).normal(120, 8, labels.shape) - 60 * (
            cv2.Laplacian(labels, cv2.CV_64F) != 0
        )
        for place, pixels in (("images", image.clip(0, 255).astype(np.uint8)), ("masks", labels)):
            (root / place).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / place / f"{number}.png"), pixels)
    return root


def done_by(out):
    path = out / "training" / "final" / "checkpoint.pt"
    try:
        return int(torch.load(path, weights_only=True)["losses"][-1][0])
    except FileNotFoundError:
        return 0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_training_killed_at_twenty_random_moments_ends_with_the_same_weights(tmp_path):
    root, fork = drawn(tmp_path / "squares"), multiprocessing.get_context("fork")

    def started(out):
        process = fork.Process(target=train, args=(root, out))
        process.start()
        return process

    began = time.monotonic()
    undisturbed = started(tmp_path / "a")
    undisturbed.join()
    whole = time.monotonic() - began
    assert undisturbed.exitcode == 0
    random = np.random.default_rng(7)
    out, kills, seen = tmp_path / "b", 0, set()
    while kills < KILLS:
        process = started(out)
        process.join(random.uniform(0.05, 0.3) * whole)
        if process.exitcode is not None:  # it finished between two kills: begin again, so that every kill counts
            assert process.exitcode == 0
            out = tmp_path / f"b{kills}"
            continue
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
        seen.add(done_by(out))
    last = started(out)
    last.join()
    assert last.exitcode == 0
    assert len(seen) > 3, "it was killed at different steps"
    expected = (tmp_path / "a" / bundle.WEIGHTS).read_bytes()
    finished = list(tmp_path.glob(f"b*/{bundle.WEIGHTS}"))
    assert finished
    assert all(path.read_bytes() == expected for path in finished)
