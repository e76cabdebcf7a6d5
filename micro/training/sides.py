"""Which images, or parts of images, train and which measure."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from micro.bundle import Bundle
from micro.errors import BadFolder
from micro.folder import Annotated, AnnotatedFolder
from micro.score.folds import fold_numbers, set_apart
from micro.training.plan import HELD_OUT_OF, PLACE_GAP_PX, PLAN, TrainingPlan

Sides = tuple[list[Annotated], list[Annotated]]


def sides(plan: TrainingPlan, images: Sequence[Annotated]) -> Sides:
    """Return what the shipped weights train on and what measures them; all and nothing where folds measured already.

    Raises BadFolder where an image is too narrow for two parts.
    """
    if plan.split == "folds":
        return list(images), []
    if plan.split == "image":
        train = [item for item in images if item.image.name not in plan.held_out]
        return train, [item for item in images if item.image.name in plan.held_out]
    edges = _edges(plan, images)
    if narrow := [item.image.name for item, edge in zip(images, edges, strict=True) if edge <= PLACE_GAP_PX]:
        raise BadFolder(
            f"{plan.folder}: too narrow for a part that trains and one that does not, {PLACE_GAP_PX} px apart: "
            f"{', '.join(narrow[:12])}. Leave them out, or measure by --folds."
        )
    train = [_left(item, edge - PLACE_GAP_PX) for item, edge in zip(images, edges, strict=True)]
    known = _known_right if plan.finds_instances else _right
    return train, [known(item, edge) for item, edge in zip(images, edges, strict=True)]


def fold_sides(plan: TrainingPlan, images: Sequence[Annotated], fold: int) -> Sides:
    """Return what trains and what measures in one fold of the plan."""
    groups, classes = [item.group for item in images], [item.class_name for item in images]
    numbers = fold_numbers(groups, classes, plan.folds, plan.seed)
    train = [item for item, number in zip(images, numbers, strict=True) if number != fold]
    return train, [item for item, number in zip(images, numbers, strict=True) if number == fold]


def set_aside(plan: TrainingPlan, train: Sequence[Annotated]) -> Sides:
    """Part what may train into what trains and what says when to stop: a fifth of the groups, or each one's right.

    Nothing is set aside where the plan has no patience.
    """
    if not plan.patience:
        return list(train), []
    groups, classes = [item.group for item in train], [item.class_name for item in train]
    if len(set(groups)) >= HELD_OUT_OF:
        apart = set_apart(groups, classes, HELD_OUT_OF, plan.seed)
        if not any(apart):
            raise BadFolder(f"{plan.folder}: all of a class would be set aside. Train without patience.")
        return (
            [item for item, is_apart in zip(train, apart, strict=True) if not is_apart],
            [item for item, is_apart in zip(train, apart, strict=True) if is_apart],
        )
    if any(item.labels is None for item in train):
        raise BadFolder(f"{plan.folder}: {len(set(groups))} groups of frames train, too few to set some aside.")
    by_place = plan.model_copy(update={"split": "place", "held_out_share": 1 / HELD_OUT_OF})
    is_narrow = min(_edges(by_place, train)) <= PLACE_GAP_PX
    trains, aside = ([], []) if is_narrow else sides(by_place, train)
    if not any((item.labels >= 0).any() for item in aside if item.labels is not None):
        raise BadFolder(f"{plan.folder}: its images are too small to set a part aside. Train without patience.")
    return trains, aside


def held_out_images(made: Bundle, folder: AnnotatedFolder) -> list[Annotated]:
    """Return what the training of a bundle held out of this folder, by the plan that lies in the bundle.

    Raises BadFolder when the plan is missing, trained on a folder of another name, held out images that are no longer
    there, or shipped weights that saw all.
    """
    path = made.folder / PLAN
    if not path.is_file():
        raise BadFolder(f"{made.folder}: no {PLAN}, so nobody knows what was held out. Score without --held-out.")
    plan = TrainingPlan.model_validate_json(path.read_text(encoding="utf-8"))
    if plan.folder != folder.root.resolve().name:
        raise BadFolder(f"{made.card.name} was trained on a folder {plan.folder!r}, not on {folder.root.name!r}.")
    held_out = sides(plan, folder.images)[1]
    if not held_out and plan.split == "image":
        raise BadFolder(
            f"{folder.root}: none of the {len(plan.held_out)} images that the training of {made.card.name} held out is "
            f"there, such as {plan.held_out[0]}. Score the folder that it was trained on."
        )
    if not held_out:
        raise BadFolder(f"{made.card.name} was measured in folds and then trained on all; its card has those figures.")
    return held_out


def held_out_of_all(made: Sequence[Bundle], folder: AnnotatedFolder) -> list[Annotated]:
    """Return what the trainings of all of some bundles held out of this folder; see `held_out_images`."""
    first, *others = (held_out_images(each, folder) for each in made)
    for other in others:
        labels_of = {item.image.name: item.labels for item in other}
        first = [_also_held_out(item, labels_of[item.image.name]) for item in first if item.image.name in labels_of]
    return first


def unseen_images(made: Bundle, folder: AnnotatedFolder) -> list[Annotated]:
    """Return what a bundle never saw of a folder: all of it, or what was held out where it trained on the folder.

    Raises BadFolder when it saw everything.
    """
    path = made.folder / PLAN
    if path.is_file():
        plan = TrainingPlan.model_validate_json(path.read_text(encoding="utf-8"))
        if plan.folder == folder.root.resolve().name and plan.folds:
            raise BadFolder(
                f"{made.card.name} learned from all of {plan.folder!r}. Name no folder: its answers to frames that its "
                f"folds never saw lie in the bundle."
            )
        if plan.folder == folder.root.resolve().name:
            return held_out_images(made, folder)
    return list(folder.images)


def _edges(plan: TrainingPlan, images: Sequence[Annotated]) -> list[int]:
    """Return the column of each image from which on it is held out by place."""
    return [round(item.image.width_px * (1 - plan.held_out_share)) for item in images]


def _also_held_out(item: Annotated, labels: NDArray[np.int32] | None) -> Annotated:
    """Return an image with its labels known only where those of another holding out (Y, X) are known too."""
    if item.labels is None or labels is None:
        return item
    return replace(item, labels=np.where(labels < 0, np.int32(-1), item.labels))


def _left(item: Annotated, columns: int) -> Annotated:
    """Return an image and its labels cut to the first so many columns."""
    assert item.labels is not None
    image = replace(item.image, pixels=item.image.pixels[:, :columns])
    twins = None if item.twins is None else item.twins[:, :columns]
    return replace(item, image=image, labels=item.labels[:, :columns], twins=twins)


def _known_right(item: Annotated, first: int) -> Annotated:
    """Return the whole image, as a user predicts it, with labels that are known from column `first` on only.

    A region of which more than half lies left of that is not known at all: its rest is no region of its own.
    """
    assert item.labels is not None
    _, numbers = np.unique(item.labels, return_inverse=True)
    numbers = numbers.reshape(item.labels.shape)
    left = 2 * np.bincount(numbers[:, :first].ravel(), minlength=numbers.max() + 1) > np.bincount(numbers.ravel())
    labels = np.where(left[numbers] & (item.labels > 0), -1, item.labels)
    return _right(replace(item, labels=labels), first)


def _right(item: Annotated, first: int) -> Annotated:
    """Return the whole image with labels that are known from column `first` on only."""
    assert item.labels is not None
    labels = item.labels.copy()
    labels[:, :first] = -1
    return replace(item, labels=labels)
