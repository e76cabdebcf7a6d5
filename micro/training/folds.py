"""Images divided evenly, copies of one image kept together."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from micro.folder import Annotated


def fold_numbers(images: Sequence[Annotated], folds: int, seed: int) -> list[int]:
    """Return the fold of each image: classes spread evenly, copies of one image in one fold."""
    groups: dict[str, list[int]] = defaultdict(list)
    for number, item in enumerate(images):
        groups[item.group].append(number)
    by_class: dict[str | None, list[list[int]]] = defaultdict(list)
    for members in groups.values():
        by_class[images[members[0]].class_name].append(members)
    random = np.random.default_rng(seed)
    result = [0] * len(images)
    next_fold = 0
    for class_name in sorted(by_class, key=str):
        for index in random.permutation(len(by_class[class_name])):
            for number in by_class[class_name][index]:
                result[number] = next_fold % folds
            next_fold += 1
    return result
