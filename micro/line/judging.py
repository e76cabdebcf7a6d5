"""A person's word on a frame of a run, judged by what may ship on that line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micro import bundle, formats, measure, tasks
from micro.decide import NG, OK
from micro.errors import BadSetting
from micro.line import record
from micro.line.corrections import Correction
from micro.recipe import Recipe
from micro.regions import Regions
from micro.score.regions import overlap

Row = Mapping[str, Any]
PLACE = ("centroid_y_px", "centroid_x_px", "area_px")


@dataclass(frozen=True)
class Judge:
    """The task, settings and recipe of a run: what it judges frames by."""

    folder: Path
    task: tasks.Task
    settings: tasks.TaskSettings
    recipe: Recipe

    @classmethod
    def of_run(cls, folder: Path) -> "Judge":
        """Return the judge of the run that wrote a folder.

        Raises MicroError where the folder has no record, UnknownBundle where its bundle is not there, and BadSetting
        where another one has its name.
        """
        facts = record.read(folder)
        recipe = Recipe.model_validate(facts["recipe"])
        card = bundle.load(recipe.model).card
        if card.weights_sha256 != facts["bundle"]["weights_sha256"]:
            raise BadSetting(
                f"{recipe.model}: not the bundle that judged {folder}, of which frames were corrected. Install "
                f"{facts['bundle']['name']} {facts['bundle']['version']}, which knows what may ship."
            )
        task = tasks.of(card)
        return cls(folder, task, tasks.settings_of(task, card, recipe), recipe)

    def corrected(self, row: Row, regions: Sequence[Row], said: Correction) -> tuple[Row, list[Row]]:
        """Return the rows of a frame and of its regions as a person says that they are."""
        if said.class_name is not None:
            assert self.task.judge is not None
            verdict = self.task.judge({said.class_name: 1.0}, self.settings, self.recipe)
            return {**row, "class": said.class_name, "score": None, "verdict": verdict}, [*regions]
        assert said.labels is not None
        labels = formats.read_labels(self.folder / said.labels)
        names = class_names(labels, formats.read_labels(self.folder / row["labels"]), regions)
        table = measure.columns(labels)
        drawn: list[Row] = [
            {"class": name, "score": None, **{column: table[column][number] for column in PLACE}}
            for number, name in enumerate(names)
            if table["area_px"][number]
        ]
        if self.task.judge_regions is None:
            verdict = NG if drawn else OK
        else:
            kept = tuple(each["class"] for each in drawn)
            sure = Regions(np.zeros((1, 1), np.int32), kept, np.ones(len(kept), np.float32))
            verdict = self.task.judge_regions(sure, self.settings, self.recipe)
        return {**row, "verdict": verdict}, drawn


def class_names(labels: NDArray[np.int32], found: NDArray[np.int32], regions: Sequence[Row]) -> tuple[str, ...]:
    """Return for each number of corrected labels (Y, X), from 1, the class of the found region that it covers most.

    found: (Y, X), the labels of the run, and the rows of their regions. A region where none was found has the class
    that most others have, or "" where nothing was found at all.
    """
    class_of = {int(each["index"]): str(each["class"]) for each in regions}
    usual = max(class_of.values(), key=[*class_of.values()].count, default="")
    cells = overlap(labels, found)
    covered: dict[int, int] = {}
    for cell in np.argsort(cells.area_px, kind="stable"):  # the largest share comes last and stays
        if cells.found[cell] > 0:
            covered[int(cells.truth[cell])] = int(cells.found[cell])
    return tuple(class_of.get(covered.get(number, 0), usual) for number in range(1, int(labels.max(initial=0)) + 1))
