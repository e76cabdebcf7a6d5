"""`micro calibrate`: thresholds from what errors cost."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from micro.cli.app import DONE, app, make_room
from micro.cli.scale import AS_FILES_SAY, Scale
from micro.cli.screen import out

FOLDS = 10


@app.command
def calibrate(
    folder: Path | None = None,
    *,
    model: str,
    ok_classes: str,
    out_file: Annotated[Path, Parameter(name=["--out", "-o"])],
    cost_escape: float = 20,
    cost_overkill: float = 1,
    cost_review: float | None = None,
    review_rate: float | None = None,
    max_escape: float | None = None,
    ng_share: float | None = None,
    scale: Scale = AS_FILES_SAY,
    device: str = "auto",
) -> int:
    """Find when a frame is OK, REVIEW or NG, from what errors cost, and write that as a recipe for `predict --recipe`.

    What the limits would have done is counted in ten folds, each judged by what the other nine gave. Refused where the
    frames with a defect, or those without, are too few.

    Parameters
    ----------
    folder
        One folder a class, of frames that the bundle never saw; without it, the answers that `micro train --folds`
        left in the bundle.
    model
        Name of an installed bundle, or the folder of one.
    ok_classes
        Classes that may ship, separated by commas.
    out_file
        YAML file of the recipe.
    cost_escape
        What a defect costs that ships.
    cost_overkill
        What a good frame costs that is thrown away, in the same currency.
    cost_review
        What a person's look at a frame costs; without it, and without --review-rate, there is no REVIEW.
    review_rate
        Share of the frames that people can look at, 0..1, in place of that cost.
    max_escape
        Share of the defects, 0..1, that may ship at most, with 95 % confidence.
    ng_share
        Share of defects on the line, 0..1, where it differs from the share among these frames.
    scale
        How large a pixel is, whatever the files say.
    device
        auto, cpu, cuda, cuda:N or mps.
    """
    from micro import bundle
    from micro import folder as folders
    from micro.decide import Wishes, study
    from micro.errors import BadSetting
    from micro.recipe import Recipe
    from micro.score.folds import fold_numbers

    wishes = Wishes(cost_escape, cost_overkill, cost_review, review_rate, max_escape, ng_share)
    um = scale.given().um
    make_room(out_file)
    chosen = bundle.load(model)
    if chosen.card.classifier is None:
        raise BadSetting(f"{chosen.card.name} names no classes of frames, so there is nothing to calibrate.")
    from micro import trial

    if folder is None:
        answers = trial.kept_answers(chosen)
    else:
        from micro.engine import Engine
        from micro.training import unseen_images

        seen = folders.read(folder)
        out.print(seen.describe())
        if seen.annotation != "frames":
            raise BadSetting(f"{folder}: verdicts on frames are calibrated with frames, one folder a class.")
        # limits and temperature go together, so the card's temperature is put aside
        plain = replace(chosen, card=chosen.card.model_copy(update={"temperature": 1.0}))
        answers = trial.run(Engine(plain, Recipe(model=model, pixel_size_um=um), device), unseen_images(chosen, seen))
    truth, probabilities = answers.frames()
    names = tuple(name.strip() for name in ok_classes.split(",") if name.strip())
    classes = [answers.class_names[number] for number in truth]
    parts = fold_numbers(answers.groups, classes, FOLDS, 0)
    found = study(truth, probabilities, answers.class_names, names, wishes, parts)
    decision = found.decision.model_copy(update={"weights_sha256": chosen.card.weights_sha256})
    Recipe(model=model, decision=decision).save(out_file)
    out.print(f"{len(classes)} frames that the bundle never saw\n{found.describe()}\nRecipe: {out_file}")
    return DONE
