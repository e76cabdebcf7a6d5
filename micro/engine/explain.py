"""Where a classifier looked: which parts of a frame speak for a class."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from micro import networks
from micro.bundle import Bundle
from micro.engine.engine import Engine
from micro.errors import BadSetting
from micro.micrograph import Micrograph
from micro.regions import Prediction

# Coarser maps than this say no more than which quarter of a frame it was.
LEAST_CELLS = 7


@dataclass(frozen=True, eq=False)
class Explanation:
    """What spoke for a class, read-only.

    heat: (Y, X) float32 on the image's own grid, 0..1, 1 where most of it lies; all zero where nothing speaks for it.
    """

    prediction: Prediction
    class_name: str
    heat: NDArray[np.float32]

    def __post_init__(self) -> None:
        view = self.heat.view()
        view.flags.writeable = False
        object.__setattr__(self, "heat", view)


class Explainer:
    """A bundle that can say where it looked; its answers are those of the engine.

    The map is Grad-CAM's (R. R. Selvaraju et al., ICCV 2017) without the mean over the gradients, so that it shows only
    what the class was computed from (HiResCAM: R. L. Draelos, L. Carin, arXiv 2011.08891). It is taken at the deepest
    layer of the network that has LEAST_CELLS cells an edge.
    """

    def __init__(self, bundle: Bundle, device: str = "auto") -> None:
        spec = bundle.card.classifier
        if spec is None:
            raise BadSetting(f"{bundle.card.name} names no frames: where its regions lie is in labels/.")
        self.engine = Engine(bundle, device=device)
        if spec.encoder_name == "lenet-alexnet":
            raise BadSetting(
                f"{bundle.card.name}: two networks side by side look at a frame, and no one map says where."
            )
        self._outputs = spec.outputs
        # the engine's own network is rewritten for speed and has no layers to look into
        plain = networks.trained(bundle.card, "classifier", bundle.weights())
        self._network = plain.eval().requires_grad_(False).to(self.engine.device)
        self._first_px: float | None = None

    def explain(self, image: Micrograph, class_name: str | None = None) -> Explanation:
        """Return what speaks for a class in an image, for its likeliest class if none is named.

        Raises BadSetting for a class that the bundle does not know.
        """
        prediction = self.engine.predict(image)
        chosen = class_name or prediction.class_name
        if chosen not in self._outputs:
            raise BadSetting(f"No class {chosen!r}. There are: {', '.join(self._outputs)}.")
        frame = self.engine.frame(image)
        cells = self._heat(frame, self._outputs.index(chosen))
        if self._first_px is None:
            self._first_px = self._centre_of_first_cell(frame)
        edge, shape = frame.shape[2], (image.height_px, image.width_px)
        places = [
            ((np.arange(size) + 0.5) * edge / size - 0.5 - self._first_px) * count / edge
            for size, count in zip(shape, cells.shape, strict=True)
        ]
        y, x = np.meshgrid(*places, indexing="ij")
        heat = cv2.remap(
            cells, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return Explanation(prediction, chosen, np.asarray(heat / (heat.max() or 1), np.float32))

    def _heat(self, frame: Tensor, number: int) -> NDArray[np.float32]:
        """Return activation times gradient, summed over channels, where that is positive: (y, x)."""
        cells, answer = self._looked_into(frame)
        answer[0, number].backward()  # type: ignore[no-untyped-call]
        assert cells.grad is not None
        spoken = (cells.detach() * cells.grad).sum(dim=1)[0].clamp(min=0)
        return np.asarray(spoken.float().cpu().numpy(), np.float32)

    def _centre_of_first_cell(self, frame: Tensor) -> float:
        """Return the row of the frame that a map's first row looks at, in px.

        Strides and paddings shift it by up to half a cell. It is measured where there are no borders: from what the
        middle cell of a frame of noise depends on.
        """
        noise = torch.randn(frame.shape, generator=torch.Generator().manual_seed(0)).to(frame.device).requires_grad_()
        cells, _ = self._looked_into(noise)
        middle = cells.shape[2] // 2
        cells[0, :, middle, middle].abs().sum().backward()  # type: ignore[no-untyped-call]
        assert noise.grad is not None
        depends = noise.grad[0].double().square().sum(dim=(0, 2)).cpu().numpy()
        centre_px = float((depends * np.arange(len(depends))).sum() / depends.sum())
        return centre_px - middle * frame.shape[2] / cells.shape[2]

    def _looked_into(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """Return the map (1, C, y, x) of the deepest layer that is fine enough, and the logits that came from it."""
        seen: list[Tensor] = []

        def keep(_module: nn.Module, _given: object, answer: object) -> Tensor | None:
            if not isinstance(answer, Tensor) or answer.ndim != 4 or min(answer.shape[2:]) < LEAST_CELLS:
                return None
            seen.append(answer.clone().requires_grad_() if not answer.requires_grad else answer.clone())
            seen[-1].retain_grad()
            return seen[-1].clone()  # the next layer may work in place

        hooks = [module.register_forward_hook(keep) for module in _chain(self._network)]
        try:
            with torch.enable_grad():
                answer = self._network(frame)
        finally:
            for hook in hooks:
                hook.remove()
        if not seen:
            raise BadSetting(f"{self.engine.card.name}: its network keeps no map of the frame that could be shown.")
        return seen[-1], answer


def _chain(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers through which all goes, one after the other."""
    for child in network.children():
        if isinstance(child, nn.Sequential):
            yield from _chain(child)
        else:
            yield child
