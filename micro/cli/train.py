"""`micro train` and `micro score`: from annotated images to a bundle, and how good a bundle is on them."""

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from micro.cli.app import DONE, SOME_FAILED, app, make_room
from micro.cli.scale import AS_FILES_SAY, Scale
from micro.cli.screen import Shown, out, watched
from micro.errors import BadSetting, MicroError

# What --from says for random weights.
NOTHING = "none"
USUAL_MINUTES = 25


@app.command
def train(
    folder: Path,
    *,
    task: str,
    out_dir: Annotated[Path, Parameter(name=["--out", "-o"])],
    minutes: float | None = None,
    network: str | None = None,
    start: Annotated[str | None, Parameter(name="--from")] = None,
    folds: int = 0,
    colour: bool = False,
    group_by: str | None = None,
    balance: bool = False,
    seed: int | None = None,
    about: Path | None = None,
    sample: Path | None = None,
    measure: Path | None = None,
    corrections: Path | None = None,
    store: Annotated[str | None, Parameter(env_var="MICRO_STORE")] = None,
    beside: Annotated[tuple[Path, ...], Parameter(name="--with")] = (),
    unlabelled: Path | None = None,
    plan: Path | None = None,
    write_plan: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: Shown = "auto",
) -> int:
    """Train a bundle from an annotated folder, and measure it on images it never saw.

    Parameters
    ----------
    folder
        images/ with masks/ beside it (and classes.yaml, where their values are classes), images with the files of an
        annotation tool, or one folder a class.
    task
        What to learn: flakes, grains, phases or defects.
    out_dir
        Folder of the bundle; its name is the bundle's name.
    minutes
        How long it may take on two cores; 25 if not given.
    network
        Encoder or classifier by name; the task's usual one if not given.
    start
        Bundle to begin from, none for random weights, or imagenet where that can be downloaded. If neither
        this nor a network is given: start-segment for grains and phases in at most ten images, random weights for all
        else.
    folds
        Measure by so many folds of the images (or of the groups in groups.csv), then train on everything.
    colour
        Learn from the colours of the images: grains, phases and defects are told apart by brightness otherwise, so that
        a bundle reads grey images too. What begins from a bundle of the same task sees what that one sees.
    group_by
        Regular expression whose bracketed group, found in an image's name, is its specimen or field: `'^([^_]+)_'`.
    balance
        Count rare classes more in the loss, and lay crops over them as often as over others; the plan says how much.
    seed
        Same seed, same folder, same weights; 0 if not given.
    about
        YAML file with version, summary, data_name, data_licence, licence and limits for the card.
    sample
        Image that the bundle carries to prove itself; a held-out one if not given.
    measure
        Another annotated folder, that nothing trains on, to measure the result on as well.
    corrections
        Folder of a run whose images people corrected: each trains with the last word on it. The images held out stay
        the same.
    store
        Address of that run's ledger, where it is no file in its folder.
    beside
        A further annotated folder that trains and measures nothing, such as drawn scenes; repeat for more.
    unlabelled
        Folder of images that nobody annotated: in the second half, every other step learns what the network is sure of
        there.
    plan
        YAML file of a plan that --write-plan wrote for the same folder and that was edited since. It says how many
        steps are done, so --minutes cannot.
    write_plan
        Write the plan to this YAML file, and train nothing.
    resume
        Go on with the training that lies in the output folder.
    device
        auto, cpu, cuda, cuda:N or mps. The minutes are those of two cores, and a GPU needs fewer for the same steps.
    progress
        auto: a bar on a terminal, a line now and then elsewhere; json: one line of JSON every few steps.
    """
    from micro import bundle, formats, tasks
    from micro import folder as folders

    if plan is not None and minutes is not None:
        raise BadSetting(f"{plan}: its steps say how long it takes, and so does --minutes. Edit `steps`, or leave one.")
    learned = tasks.find(task)
    annotated = folders.read_for(learned, folder, group_by)
    further = tuple(folders.read_for(learned, each) for each in beside)
    out.print("\n".join(each.describe() for each in (annotated, *further)))
    from micro import training

    begun = bundle.load(start) if start and start not in (NOTHING, training.IMAGENET) else None
    if start is None and network is None:
        begun = training.usual_start(annotated, task)
    first = training.IMAGENET if start == training.IMAGENET else begun
    planned = training.plan(
        annotated,
        task,
        USUAL_MINUTES if minutes is None else minutes,
        seed=seed or 0,
        network=network,
        folds=folds,
        start=first,
        beside=further,
        device=device,
        colour=colour,
        balance=balance,
        unlabelled=unlabelled.resolve().name if unlabelled else None,
    )
    if plan is not None:
        planned = training.read_plan(plan, planned, annotated.images)
        stated: dict[str, tuple[object, object]] = {
            "seed": (seed, planned.seed),
            "folds": (folds or None, planned.folds),
            "network": (network, planned.network.encoder_name),
            "colour": (colour or None, planned.network.channels == "rgb"),
            "balance": (balance or None, bool(planned.class_weights)),
        }
        for name, (said, planned_so) in stated.items():
            if said is not None and said != planned_so:
                raise BadSetting(f"{plan}: its {name} is {planned_so}, and the command says {said}. Edit one of them.")
    out.print(planned.describe())
    if write_plan is not None:
        training.write_plan(write_plan, planned)
        out.print(f"{write_plan}: edit it, and train by it with --plan {write_plan}.")
        return DONE
    if corrections is not None:
        from micro.line.corrections import annotated_by

        annotated = folders.corrected(annotated, annotated_by(corrections, store))
        out.print(annotated.remarks[-1])
    making = training.Making(
        name=out_dir.resolve().name,
        about=training.About.load(about) if about else training.About(),
        command=shlex.join(["micro", *(argument for argument in sys.argv[1:] if argument != "--resume")]),
        sample=formats.read(sample) if sample else None,
        start=begun,
        measure=folders.read_for(learned, measure) if measure else None,
        beside=further,
        unlabelled=folders.unlabelled(unlabelled) if unlabelled else (),
        device=device,
    )
    outcome = watched(training.train_steps(planned, annotated, out_dir, making, resume), "steps", progress)
    out.print((out_dir / "README.md").read_text(encoding="utf-8"))
    from micro.report.training import PAGE_NAME, write_training

    write_training(out_dir / PAGE_NAME, outcome, (annotated, *further))
    out.print(f"Report: {out_dir / PAGE_NAME}")
    return DONE


@app.command
def score(
    folder: Path,
    *,
    model: str,
    against: str | None = None,
    tolerance: float = 0.0,
    held_out: bool = False,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    scale: Scale = AS_FILES_SAY,
    device: str = "auto",
) -> int:
    """Compare a bundle's answers with an annotated folder, or a challenger's with those of the bundle in use.

    Exit code: 0 done, and with --against nothing got worse; 1 with --against when something did.

    Parameters
    ----------
    folder
        Annotated images, in any form that `micro train` reads.
    model
        Name of an installed bundle, or the folder of one.
    against
        The bundle in use, that the model is to replace: its name or folder. Take a folder that neither trained on.
    tolerance
        How far a figure of a class (0..1) may fall before it counts as worse.
    held_out
        Only the images, or parts of images, that the training of the bundle, or of both, held out of this folder.
    json_file
        File for the figures with their intervals.
    scale
        How large a pixel is, whatever the files say.
    device
        auto, cpu, cuda, cuda:N or mps.
    """
    from micro import bundle, tasks
    from micro import folder as folders

    if json_file is not None:
        make_room(json_file)
    um = scale.given().um
    names = (model,) if against is None else (model, against)
    card = bundle.load(model).card
    annotated = folders.read_for(tasks.find(card.task), folder)
    out.print(annotated.describe())
    if annotated.annotation == "classes" and annotated.classes != card.classes:
        raise MicroError(
            f"{folder}: its classes are {', '.join(annotated.classes)}, and those of {card.name} are "
            f"{', '.join(card.classes)}. A classes.yaml names them in the order of their values."
        )
    from micro import challenge, trial
    from micro.engine import Engine
    from micro.training import held_out_of_all

    images = list(annotated.images)
    if held_out:
        images = held_out_of_all([bundle.load(name) for name in names], annotated)
    images = trial.measurable(images)
    result = trial.run(Engine.load(model, device, um), images)
    out.print(result.describe())
    code = DONE
    if against is None:
        on = f"{annotated.root.name}, {'held out' if held_out else 'all'} {len(images)} images"
        figures = [row.model_dump() for row in result.measured(on)]
    else:
        compared = challenge.compare(result, trial.run(Engine.load(against, device, um), images), tolerance)
        out.print(f"\n{compared.describe()}")
        figures = [asdict(change) for change in compared.changes]
        code = DONE if compared.may_replace else SOME_FAILED
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return code
