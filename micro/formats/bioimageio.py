"""A network as a model of the BioImage Model Zoo: one zip that says what goes in and what comes out, with both to try.

The description is that of `bioimageio.spec` 0.5, which also checks it; nothing is looked up on a network.
"""

import gc
import re
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from micro.card import Card, NetworkSpec
from micro.errors import BadSetting, BrokenBundle

SCALING = (
    "It takes pixels that were scaled as the task scales them, not raw ones: `micro` (the function `scaling` of "
    "`micro/tasks/{task}.py`) says how. It gives probabilities, 0 to 1, of: {outputs}."
)


@dataclass(frozen=True, eq=False)
class Tried:
    """What a network was given and what it answered.

    pixels: (B, C, y, x) float32, scaled. probabilities: (B, K, y, x) float32, or (B, K) of whole frames.
    """

    pixels: NDArray[np.float32]
    probabilities: NDArray[np.float32]


def write_model(path: Path, card: Card, spec: NetworkSpec, torchscript: Path, tried: Tried) -> None:
    """Write a TorchScript network as a zip for the zoo, after it was read back and found valid.

    Raises BadSetting where bioimageio.spec is not installed, BrokenBundle with its reasons where it finds a fault.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # bioimageio.spec leaves its files to the collector
        fault = _written(path, card, spec, torchscript, tried)
        gc.collect()
    if fault is not None:
        raise BrokenBundle(f"{path}: bioimageio.spec finds no valid model in this. {fault}")


def _written(path: Path, card: Card, spec: NetworkSpec, torchscript: Path, tried: Tried) -> str | None:
    """Write the zip, and return what is wrong with it."""
    try:
        import bioimageio.spec as zoo
        from bioimageio.spec.common import FileDescr
        from bioimageio.spec.model import v0_5 as model
    except ImportError as fault:
        raise BadSetting(
            f'The BioImage Model Zoo needs a further package ({fault.name}): pip install "micro[bioimageio]".'
        ) from fault
    is_unet = spec.kind == "unet"
    edge: Any = model.ParameterizedSize(min=spec.stride_px, step=spec.stride_px) if is_unet else spec.input_px
    pixels, chances = model.TensorId("pixels"), model.TensorId("probabilities")
    axes = [model.AxisId("y"), model.AxisId("x")]
    spaces = [model.SpaceInputAxis(id=axis, size=edge) for axis in axes]
    found = [model.SpaceOutputAxis(id=axis, size=model.SizeReference(tensor_id=pixels, axis_id=axis)) for axis in axes]
    colours = model.ChannelAxis(channel_names=_names(("grey",) if spec.in_channels == 1 else tuple("rgb")))
    outputs = model.ChannelAxis(channel_names=_names(spec.outputs))
    with tempfile.TemporaryDirectory(prefix="micro-") as name:
        place = Path(name)
        np.save(place / "pixels.npy", tried.pixels)
        np.save(place / "probabilities.npy", tried.probabilities)
        (place / "README.md").write_text(_page(card, spec), encoding="utf-8")
        given = model.InputTensorDescr(
            id=pixels,
            description="scaled pixels",
            axes=[model.BatchAxis(), colours, *spaces],
            test_tensor=FileDescr(source=place / "pixels.npy"),
        )
        answered = model.OutputTensorDescr(
            id=chances,
            description="probabilities, 0 to 1",
            axes=[model.BatchAxis(), outputs, *(found if is_unet else ())],
            test_tensor=FileDescr(source=place / "probabilities.npy"),
        )
        version = model.Version(torch.__version__.partition("+")[0])
        try:
            described = model.ModelDescr(
                name=f"{card.name} {spec.kind}",
                description=card.summary[:1024],
                version=model.Version(card.version),
                documentation=FileDescr(source=place / "README.md"),
                inputs=[given],
                outputs=[answered],
                weights=model.WeightsDescr(
                    torchscript=model.TorchscriptWeightsDescr(source=torchscript, pytorch_version=version)
                ),
            )
        except ValueError as fault:
            return str(fault)
        path.unlink(missing_ok=True)
        zoo.save_bioimageio_package(described, output_path=path, local_files_only=True)
    read = zoo.load_description(path, perform_io_checks=True)
    return None if isinstance(read, model.ModelDescr) else str(read.validation_summary.format())


def _page(card: Card, spec: NetworkSpec) -> str:
    """Return what the model's page says, as Markdown."""
    lines = (
        f"# {card.name} {card.version}",
        card.summary,
        SCALING.format(task=card.task, outputs=", ".join(spec.outputs)),
        f"Licence: {card.licence}",
        "\n".join(f"- {limit}" for limit in card.limits),
    )
    return "\n\n".join(lines) + "\n"


def _names(names: tuple[str, ...]) -> list[str]:
    """Return names as identifiers."""
    return [re.sub(r"\W|^(?=\d)", "_", name) for name in names]
