"""The card of a bundle: what it finds, how it was trained, how well it does and what it cannot do."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from micro.recipe import Setting

Channels = Literal["grey", "rgb"]
"""What a network sees of an image: its brightness, or its colours."""

START = "start"
"""The task of a bundle that only training can use: it begins there, and no image is answered."""


class _CardPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkSpec(_CardPart):
    """Which network to build; `networks.build` turns it into a torch module with random weights.

    kind "unet": encoder_name of segmentation-models-pytorch, with `len(decoder_channels)` levels; one output map a name
    in `outputs`. kind "classifier": encoder_name of torchvision; one logit a name in `outputs`; input_px is the edge
    length to which whole frames are resized.
    """

    kind: Literal["unet", "classifier"]
    encoder_name: str
    in_channels: Literal[1, 3]
    outputs: tuple[str, ...] = Field(min_length=1)
    decoder_channels: tuple[Annotated[int, Field(ge=1)], ...] = ()
    input_px: int | None = Field(default=None, ge=16, le=2048)
    # two halos fit into a tile of the engine
    halo_px: int = Field(default=0, ge=0, le=736, description="measured context that a tile needs")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.kind == "classifier" and self.input_px is None:
            raise ValueError("a classifier needs input_px, to which frames are resized")
        if self.halo_px % self.stride_px:
            raise ValueError(f"halo_px {self.halo_px} is no multiple of the network's stride of {self.stride_px}")
        if len(set(self.outputs)) < len(self.outputs):
            raise ValueError(f"two outputs have one name: {', '.join(self.outputs)}")
        return self

    @property
    def channels(self) -> Channels:
        """What the network sees of an image."""
        return "rgb" if self.in_channels == 3 else "grey"

    @property
    def stride_px(self) -> int:
        """Edge of the coarsest grid that the network works on; tiles start on multiples of it."""
        return int(2 ** len(self.decoder_channels)) if self.kind == "unet" else 1


class DataSource(_CardPart):
    """Some of the data that a bundle learned from or was measured on."""

    name: str
    images: int
    licence: str
    role: str = Field(description="training, measuring, or both with how they were kept apart")


class Measured(_CardPart):
    """One measured figure with its 95 % interval, and what it was measured on."""

    what: str
    value: float
    low: float
    high: float
    on: str


class Card(_CardPart):
    """A bundle described for its user and for the engine. Unknown keys are refused."""

    schema_version: int = Field(default=1, ge=1, le=1)
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    task: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    summary: str = Field(description="what it finds, in one sentence of the user's language")
    pixel_size_um: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="trained at; None: any scale it was shown"
    )
    channels: Channels
    classes: tuple[str, ...]
    segmenter: NetworkSpec | None = None
    classifier: NetworkSpec | None = None
    settings: dict[str, Setting | dict[str, Any]] = Field(
        default_factory=dict, description="task settings that training chose"
    )
    temperature: float = Field(default=1, gt=0, description="of the classifier: its logits are divided by it")
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    graph_sha256: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{64}$", description="of the classifier as a graph that CPUs are faster with"
    )
    licence: str
    data: tuple[DataSource, ...]
    scores: tuple[Measured, ...]
    limits: tuple[str, ...]
    command: str = Field(description="the command that made it")

    @model_validator(mode="after")
    def _has_its_networks(self) -> Self:
        for place, kind, spec in (("segmenter", "unet", self.segmenter), ("classifier", "classifier", self.classifier)):
            if spec is None:
                continue
            if spec.kind != kind:
                raise ValueError(f"the {place} is a {kind}, not a {spec.kind}")
            if spec.channels != self.channels:
                raise ValueError(f"{self.channels} images do not have the {spec.in_channels} channels of the {place}")
        return self
