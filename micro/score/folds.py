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
