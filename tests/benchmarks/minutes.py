"""How long a step of training takes on this machine, beside what a plan takes for granted.

    python -m tests.benchmarks.minutes [--networks resnet18 mobilenet_v3_small] [--steps 5] [--size-px 128]

Each network that `micro train` offers learns from drawn grains, in the batches of its kind and with all threads that
torch takes, while one more thread makes the next batches; the first step is not counted. The last column is the factor
by which `--minutes` is short here.
"""

import argparse
import time
from pathlib import Path

import torch

from micro import networks, training
from micro.folder import AnnotatedFolder, annotated
from micro.scenes import grains
from micro.training.loop import loss_of
from micro.training.plan import seconds_a_step
from micro.training.samples import Sampler

UNET = "unet"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=[UNET, *networks.CLASSIFIERS])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--size-px", type=int, default=128)
    asked = parser.parse_args()
    print(f"{'network':20} {'planned':>9} {'taken':>9} {'factor':>7}   {torch.get_num_threads()} threads")
    scenes = [grains.draw(seed, asked.size_px, asked.size_px) for seed in range(20)]
    for name in asked.networks:
        is_named = name != UNET
        items = [
            annotated(scene.image, None if is_named else scene.labels, f"kind {number % 7}" if is_named else None)
            for number, scene in enumerate(scenes)
        ]
        classes = tuple(f"kind {number}" for number in range(7)) if is_named else ()
        folder = AnnotatedFolder(Path("drawn"), tuple(items), classes, ())
        plan = training.plan(folder, "defects" if is_named else "grains", 1, network=name if is_named else None)
        planned_s = seconds_a_step(plan.network, plan.crop_px, plan.batch, plan.precision)
        taken_s = measured(plan, folder, asked.steps)
        print(f"{name:20} {planned_s:7.3f} s {taken_s:7.3f} s {taken_s / planned_s:7.1f}", flush=True)


def measured(plan: training.TrainingPlan, folder: AnnotatedFolder, steps: int) -> float:
    """Return the mean seconds of a step."""
    network = networks.build(plan.network).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters())
    sampler = Sampler(plan, plan.task_learned, (folder.images,))
    began = 0.0
    for step, batch in enumerate(sampler.batches(0, steps + 1)):
        if step == 1:
            began = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        loss_of(network(batch.pixels), batch, plan).backward()
        optimiser.step()
    return (time.perf_counter() - began) / steps


if __name__ == "__main__":
    main()
