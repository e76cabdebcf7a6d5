"""The card and the page of a bundle that has just been trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from micro.bundle import Bundle
from micro.card import Card, DataSource
from micro.document import read_yaml, reasons
from micro.errors import BadSetting
from micro.folder import Annotated, AnnotatedFolder
from micro.micrograph import Micrograph
from micro.tasks import Lesson
from micro.training.plan import TrainingPlan

# Name of a bundle's page.
README = "README.md"


class Beside(BaseModel):
    """What further images are that trained and measured nothing, in the order of the command's --with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    licence: str


class About(BaseModel):
    """What the maker of a bundle says about it, in a YAML file: the part of the card that no computer knows.

    data_name, data_licence: the data it learned from. licence: of the bundle, which follows from the data's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = "1.0.0"
    summary: str = "Trained from an annotated folder."
    data_name: str = "an annotated folder"
    data_licence: str = "not stated"
    beside: tuple[Beside, ...] = ()
    licence: str = "not stated"
    limits: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the YAML file; raise BadSetting when it says something else."""
        try:
            return cls.model_validate(read_yaml(path))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as fault:
            raise BadSetting(f"{path}: not a description of a bundle. {reasons(fault)}") from fault


@dataclass(frozen=True)
class Making:
    """What a bundle needs to know of how it came to be, beside the plan.

    command: what was typed, so that it can be typed again.
    sample: the image that the bundle carries to prove itself; the first held-out image if None.
    start: the bundle that the plan begins from, if it begins from one.
    measure: another annotated folder, that nothing trains on, to measure the result on as well.
    beside: further folders that train and measure nothing.
    unlabelled: images that nobody annotated.
    device: where networks learn and are measured: "auto", "cpu", "cuda", "cuda:1" or "mps".
    """

    name: str
    about: About
    command: str
    sample: Micrograph | None = None
    start: Bundle | None = None
    measure: AnnotatedFolder | None = None
    beside: tuple[AnnotatedFolder, ...] = ()
    unlabelled: tuple[Micrograph, ...] = ()
    device: str = "cpu"

    def __post_init__(self) -> None:
        if len(self.about.beside) > len(self.beside):
            raise BadSetting(
                f"{self.name} is said to learn from {len(self.about.beside)} further folders; --with names "
                f"{len(self.beside)}."
            )


def card_of(
    plan: TrainingPlan,
    folder: AnnotatedFolder,
    making: Making,
    trained: Sequence[Annotated] = (),
) -> Card:
    """Return the card of a trained bundle; its weights' hash is set when it is saved.

    trained: the images that it learned from, where they may tell more than a network learns.
    """
    task = plan.task_learned
    lessons = [
        Lesson(item.image, item.labels, item.region_classes)
        for item in trained
        if item.labels is not None and item.region_classes
    ]
    told = task.settings_of(lessons) if task.settings_of and lessons else {}
    sizes = {item.image.pixel_size_um for item in folder.images}
    unet = plan.network.kind == "unet"
    return Card(
        name=making.name,
        version=making.about.version,
        task=plan.task,
        summary=making.about.summary,
        pixel_size_um=sizes.pop() if len(sizes) == 1 else None,
        channels=plan.network.channels,
        classes=(plan.task,) if plan.finds_instances else plan.network.outputs,
        segmenter=plan.network if unet else None,
        classifier=None if unet else plan.network,
        settings=told if plan.scale == 1 else told | {"scale": plan.scale},
        weights_sha256="0" * 64,
        scores=(),
        licence=making.about.licence,
        data=(
            DataSource(
                name=making.about.data_name,
                images=len(folder.images),
                licence=making.about.data_licence,
                role=f"training, and measuring on {plan.describe_held_out()}",
            ),
            *_beside(making),
            *_unlabelled(plan, making),
        ),
        limits=making.about.limits,
        command=making.command,
    )


def _beside(making: Making) -> list[DataSource]:
    unsaid = [Beside(name=each.root.resolve().name, licence="not stated") for each in making.beside]
    said = (*making.about.beside, *unsaid[len(making.about.beside) :])
    return [
        DataSource(name=source.name, images=len(each.images), licence=source.licence, role="training only")
        for source, each in zip(said, making.beside, strict=True)
    ]


def _unlabelled(plan: TrainingPlan, making: Making) -> list[DataSource]:
    if plan.unlabelled is None:
        return []
    role = "training by the network's own answers; nobody annotated them"
    return [DataSource(name=plan.unlabelled, images=len(making.unlabelled), licence="not stated", role=role)]


def keep_readme(folder: Path, card: Card, trial: str) -> None:
    """Write the bundle's page: the card in sentences, and the trial image by image or class by class."""
    network = card.segmenter or card.classifier
    assert network is not None
    scale = (
        f"{card.pixel_size_um} um a pixel" if card.pixel_size_um else "any scale it was shown; no pixel size is stated"
    )
    lines = [
        f"# {card.name} {card.version}",
        "",
        card.summary,
        "",
        f"- **Task** {card.task}; classes: {', '.join(card.classes)}",
        f"- **Trained at** {scale}, on {card.channels} images",
        f"- **Network** {network.kind} {network.encoder_name}",
        f"- **Licence** {card.licence}",
        *(f"- **Data** {source.name}: {source.images} images, {source.licence}; {source.role}" for source in card.data),
        "",
        "## How well",
        "",
        "| what | value | 95 % interval | on |",
        "| --- | --- | --- | --- |",
        *(f"| {row.what} | {row.value:.3f} | {row.low:.3f} to {row.high:.3f} | {row.on} |" for row in card.scores),
        "",
        "```",
        trial,
        "```",
        "",
        "## What it cannot do",
        "",
        *(f"- {limit}" for limit in card.limits or ("Nothing was stated.",)),
        "",
        "## Made by",
        "",
        "```",
        card.command,
        "```",
        "",
    ]
    (folder / README).write_text("\n".join(lines), encoding="utf-8")
