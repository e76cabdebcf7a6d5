"""Images divided evenly, copies of one image kept together."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np


def fold_numbers(groups: Sequence[str], classes: Sequence[str | None], folds: int, seed: int) -> list[int]:
    """Return the fold of each image: classes spread evenly, a group (such as copies of one image) in one fold.

    groups, classes: those of each image.
    """
    members_of: dict[str, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        members_of[group].append(number)
    by_class: dict[str | None, list[list[int]]] = defaultdict(list)
    for members in members_of.values():
        by_class[classes[members[0]]].append(members)
    random = np.random.default_rng(seed)
    result = [0] * len(groups)
    next_fold = 0
    for class_name in sorted(by_class, key=str):
        for index in random.permutation(len(by_class[class_name])):
            for number in by_class[class_name][index]:
                result[number] = next_fold % folds
            next_fold += 1
    return result


def set_apart(groups: Sequence[str], classes: Sequence[str | None], share_of: int, seed: int) -> list[bool]:
    """Return which images are set apart from the rest: one group in share_of, and never all of a class."""
    chosen = [number == 0 for number in fold_numbers(groups, classes, share_of, seed)]
    rest = {class_name for class_name, is_chosen in zip(classes, chosen, strict=True) if not is_chosen}
    needed = {group for group, class_name in zip(groups, classes, strict=True) if class_name not in rest}
    return [is_chosen and group not in needed for group, is_chosen in zip(groups, chosen, strict=True)]
