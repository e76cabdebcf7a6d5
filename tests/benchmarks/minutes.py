"""How long a step of training takes on this machine, beside what a plan takes for granted.

    python -m tests.benchmarks.minutes [--networks resnet18 mobilenet_v3_small] [--steps 5] [--size-px 128]

Each network that `micro train` offers learns from noise, in the batches of its kind and with all threads that torch
takes; the first step is not counted. The last column is the factor by which `--minutes` is short here.
"""

import argparse
import time

import torch

from micro import networks, tasks
from micro.card import NetworkSpec
from micro.training.plan import seconds_a_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["unet", *networks.CLASSIFIERS])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--size-px", type=int, default=128)
    asked = parser.parse_args()
    print(f"{'network':20} {'planned':>9} {'taken':>9} {'factor':>7}   {torch.get_num_threads()} threads")
    for name in asked.networks:
        task = tasks.find("grains" if name == "unet" else "defects")
        spec = spec_of(name, task, asked.size_px)
        planned_s = seconds_a_step(spec, asked.size_px, task.habits.batch, "fp32")
        taken_s = measured(spec, asked.size_px, task.habits.batch, asked.steps)
        print(f"{name:20} {planned_s:7.3f} s {taken_s:7.3f} s {taken_s / planned_s:7.1f}", flush=True)


def spec_of(name: str, task: tasks.Task, size_px: int) -> NetworkSpec:
    if name != "unet":
        outputs = tuple("abcdefg")
        return NetworkSpec(kind="classifier", encoder_name=name, in_channels=1, outputs=outputs, input_px=size_px)
    habits = task.habits
    return NetworkSpec(
        kind="unet",
        encoder_name=habits.network,
        in_channels=1,
        outputs=task.outputs,
        decoder_channels=habits.decoder_channels,
        halo_px=64,
    )


def measured(spec: NetworkSpec, size_px: int, batch: int, steps: int) -> float:
    """Return the mean seconds of a step."""
    network = networks.build(spec).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters())
    noise = torch.randn(batch, spec.in_channels, size_px, size_px).to(memory_format=torch.channels_last)
    began = 0.0
    for step in range(steps + 1):
        if step == 1:
            began = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        network(noise).square().mean().backward()
        optimiser.step()
    return (time.perf_counter() - began) / steps


if __name__ == "__main__":
    main()
