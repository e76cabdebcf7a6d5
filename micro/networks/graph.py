"""A network as an ONNX graph, which other runtimes read and onnxruntime works through in one call."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from micro.card import NetworkSpec
from micro.errors import BadSetting

OPSET = 18


class Graph(nn.Module):
    """A graph in the place of the network that it was written from: logits or probabilities for scaled pixels.

    Its answer to a frame is the same, to the last bit, beside any others. It works on one thread, that of the caller,
    and lets other threads of Python run meanwhile.

    graph: the bytes of a file that `write` wrote.
    """

    def __init__(self, graph: bytes) -> None:
        super().__init__()
        import onnxruntime  # only bundles with a graph wait for it

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._graph = graph
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __reduce__(self) -> tuple[type["Graph"], tuple[bytes]]:
        """Let an engine go to another process: a session of onnxruntime cannot be pickled."""
        return Graph, (self._graph,)

    def forward(self, pixels: Tensor) -> Tensor:
        """Turn pixels (B, C, y, x) on the CPU into the graph's answer."""
        return torch.from_numpy(self._session.run(None, {self._input: pixels.contiguous().numpy()})[0])


def write(network: nn.Module, spec: NetworkSpec, path: Path, answer: str) -> None:
    """Write a network of this spec as ONNX: "pixels" of any batch, and of any size for a segmenter, become `answer`.

    Raises BadSetting where the packages that write ONNX are not installed.
    """
    try:
        import onnxscript  # noqa: F401  torch writes ONNX with it
    except ImportError as fault:
        raise BadSetting(f'ONNX needs further packages ({fault.name}): pip install "micro[export]".') from fault
    sizes: dict[int, object] = {0: torch.export.Dim("batch", min=1, max=1024)}
    if spec.kind == "unet":
        sizes |= {axis: spec.stride_px * torch.export.Dim(name, min=1, max=1024) for axis, name in ((2, "y"), (3, "x"))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        torch.onnx.export(
            network,
            (example(spec),),
            str(path),
            input_names=["pixels"],
            output_names=[answer],
            dynamic_shapes=(sizes,),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def example(spec: NetworkSpec) -> Tensor:
    """Return two tiles or frames of noise that a network of this spec takes."""
    edge = spec.input_px or 4 * spec.stride_px
    return torch.rand(2, spec.in_channels, edge, edge, generator=torch.Generator().manual_seed(0))
