"""The verbs of the command line; each loads what it needs only when it is called."""

import json
import logging
import shlex
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from micro.errors import MicroError

if TYPE_CHECKING:
    from micro.recipe import Recipe, Setting

DONE, SOME_FAILED, REFUSED, NOT_GOOD, INTERRUPTED = 0, 1, 2, 3, 130
# Where there is no terminal, long work says how far it is no more often than this.
SECONDS_A_LINE = 10.0
MOST_FAILURES_SHOWN = 20

Result = TypeVar("Result")

out = Console(soft_wrap=True, highlight=False, markup=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def _version() -> str:
    from importlib.metadata import version

    return version("micro")


app = App(
    name="micro",
    help="Read micrographs and sheet images and say what is there: flakes, grains, surface defects.",
    version=_version,
    default_parameter=Parameter(negative=""),
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)
models = App(name="models", help="List bundles, or show one.")
app.command(models)


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        code = app(arguments)
    except CycloptsError as fault:
        err.print(f"{fault}\nSee: micro --help")
        return REFUSED
    except MicroError as fault:
        err.print(str(fault))
        return REFUSED
    except KeyboardInterrupt:
        err.print("Interrupted. The same command goes on from here.")
        return INTERRUPTED
    return code if isinstance(code, int) else DONE


@app.command
def predict(
    *sources: str,
    model: str | None = None,
    out_dir: Annotated[Path, Parameter(name=["--out", "-o"])],
    pixel_size_um: float | None = None,
    settings: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    review_below: float | None = None,
    recipe: Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    fail_on_ng: bool = False,
) -> int:
    """Find, measure and judge what images show, and write labels, tables and a run record.

    Exit code: 0 all done, 1 some images failed (listed), 2 nothing could start, 3 an NG with --fail-on-ng,
    130 interrupted.

    Parameters
    ----------
    sources
        Images, folders (with all below them), globs, or text lists of images.
    model
        Name of an installed bundle, or the folder of one.
    out_dir
        Folder for the results; the same command goes on where an earlier one stopped.
    pixel_size_um
        Size of one pixel in micrometres; overrides what the files say.
    settings
        key=value, a setting of the task; repeat for more. `micro models show NAME` lists them.
    review_below
        Verdicts with a probability below this become REVIEW.
    recipe
        YAML file with the model and settings of an earlier run; flags beside it win.
    device
        auto, cpu, cuda, cuda:N or mps.
    overwrite
        Throw away what an earlier run left in the output folder.
    fail_on_ng
        Exit with 3 when any image is NG.
    """
    from micro import bundle
    from micro.line.run import run_steps
    from micro.line.sources import find

    asked = _recipe(recipe, model, pixel_size_um, settings, review_below)
    found = find(sources)
    from micro.engine import Engine  # after the sources are known to exist: torch takes seconds

    engine = Engine(bundle.load(asked.model), asked, device)
    summary = _watched(run_steps(found, engine, asked, out_dir, overwrite), "images")
    for name, reason in list(summary.failures.items())[:MOST_FAILURES_SHOWN]:
        err.print(f"quarantined: {reason if name in reason else f'{name}: {reason}'}")
    if summary.quarantined > MOST_FAILURES_SHOWN:
        err.print(f"... and {summary.quarantined - MOST_FAILURES_SHOWN} more; {out_dir / 'images.csv'} lists all.")
    kept = f" ({summary.unchanged} of them from an earlier run)" if summary.unchanged else ""
    out.print(
        f"{summary.done} images done{kept}, {summary.quarantined} quarantined, {summary.ng} NG, "
        f"{summary.seconds:.1f} s. Results: {out_dir}"
    )
    if summary.quarantined:
        return SOME_FAILED
    return NOT_GOOD if fail_on_ng and summary.ng else DONE


@app.command
def train(
    folder: Path,
    *,
    task: str,
    out_dir: Annotated[Path, Parameter(name=["--out", "-o"])],
    minutes: float = 25,
    network: str | None = None,
    start: Annotated[str | None, Parameter(name="--from")] = None,
    folds: int = 0,
    seed: int = 0,
    about: Path | None = None,
    sample: Path | None = None,
    measure: Path | None = None,
    resume: bool = False,
) -> int:
    """Train a bundle from an annotated folder, and measure it on images it never saw.

    Parameters
    ----------
    folder
        images/ with masks/ beside it, or one folder a class.
    task
        What to learn: flakes, grains or defects.
    out_dir
        Folder of the bundle; its name is the bundle's name.
    minutes
        How long it may take on two cores.
    network
        Encoder or classifier by name; the task's usual one if not given.
    start
        Bundle to begin from instead of random weights, or imagenet where that can be downloaded.
    folds
        Measure by so many folds of the images (or of the groups in groups.csv), then train on everything.
    seed
        Same seed, same folder, same weights.
    about
        YAML file with version, summary, data_name, data_licence, licence and limits for the card.
    sample
        Image that the bundle carries to prove itself; a held-out one if not given.
    measure
        Another annotated folder, that nothing trains on, to measure the result on as well.
    resume
        Go on with the training that lies in the output folder.
    """
    from micro import bundle, formats, tasks
    from micro import folder as folders

    tasks.find(task)
    annotated = folders.read(folder)
    out.print(annotated.describe())
    from micro import training

    begun = bundle.load(start) if start and start != training.IMAGENET else None
    first = begun or (training.IMAGENET if start else None)
    planned = training.plan(annotated, task, minutes, seed=seed, network=network, folds=folds, start=first)
    out.print(planned.describe())
    making = training.Making(
        name=out_dir.resolve().name,
        about=training.About.load(about) if about else training.About(),
        command=shlex.join(["micro", *(argument for argument in sys.argv[1:] if argument != "--resume")]),
        sample=formats.read(sample) if sample else None,
        start=begun,
        measure=folders.read(measure) if measure else None,
    )
    made = _watched(training.train_steps(planned, annotated, out_dir, making, resume), "steps")
    out.print((made.folder / "README.md").read_text(encoding="utf-8"))
    return DONE


@app.command
def score(
    folder: Path,
    *,
    model: str,
    held_out: bool = False,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    device: str = "auto",
) -> int:
    """Compare a bundle's answers with an annotated folder.

    Parameters
    ----------
    folder
        images/ with masks/ beside it, or one folder a class.
    model
        Name of an installed bundle, or the folder of one.
    held_out
        Only the images, or parts of images, that the bundle's own training held out of this folder.
    json_file
        File for the figures with their intervals.
    device
        auto, cpu, cuda, cuda:N or mps.
    """
    from micro import bundle
    from micro import folder as folders

    annotated = folders.read(folder)
    out.print(annotated.describe())
    from micro import trial
    from micro.engine import Engine
    from micro.training import held_out_images

    images = held_out_images(bundle.load(model), annotated) if held_out else annotated.images
    result = trial.run(Engine.load(model, device), images)
    out.print(result.describe())
    if json_file is not None:
        on = f"{annotated.root.name}, {'held out' if held_out else 'all'} {len(images)} images"
        figures = [row.model_dump() for row in result.measured(on)]
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return DONE


@app.command
def check(*names: str, device: str = "auto") -> int:
    """Run bundles on their own samples and compare with the answers they were stored with.

    Parameters
    ----------
    names
        Bundles by name or folder; all installed ones if none is given.
    device
        auto, cpu, cuda, cuda:N or mps.
    """
    from micro import bundle, trial

    failed = 0
    for name in names or tuple(bundle.installed()):
        try:
            out.print(f"{name}: {trial.prove(bundle.load(name), device)}")
        except MicroError as fault:
            failed += 1
            err.print(f"{name}: FAILED. {fault}")
    return SOME_FAILED if failed else DONE


@models.default
@models.command(name="list")
def models_list() -> int:
    """List the installed bundles: what each finds, at which scale, and how well."""
    from micro import bundle

    found = bundle.installed()
    if not found:
        err.print(f"No bundle is installed in {', '.join(str(place) for place in bundle.places())}.")
        return SOME_FAILED
    for name in found:
        try:
            card = bundle.load(name).card
        except MicroError as fault:
            err.print(f"{name}: {fault}")
            continue
        scale = f"{card.pixel_size_um} um a pixel" if card.pixel_size_um else "any scale like its training images"
        out.print(f"{card.name} {card.version}  ({card.task}, {card.channels}, {scale})\n  {card.summary}")
        for row in card.scores:
            out.print(f"  {row.what} {row.value:.3f} ({row.low:.3f} to {row.high:.3f}) on {row.on}")
    return DONE


@models.command(name="show")
def models_show(name: str) -> int:
    """Show a bundle's whole card and the settings that its task takes.

    Parameters
    ----------
    name
        Name of an installed bundle, or the folder of one.
    """
    from micro import bundle, tasks

    card = bundle.load(name).card
    out.print(json.dumps(card.model_dump(), indent=2, ensure_ascii=False))
    for key, info in tasks.find(card.task).settings.model_fields.items():
        out.print(f"--set {key}={card.settings.get(key, info.default)}  {info.description}")
    return DONE


@app.command
def doctor() -> int:
    """Say which versions and devices are here, test them for a second, and name the remedy of what is missing."""
    from micro import checkup

    findings = checkup.examine()
    for finding in findings:
        out.print(f"{'ok  ' if finding.fine else 'FAIL'} {finding.what}: {finding.says}")
        if finding.remedy:
            out.print(f"     {finding.remedy}")
    return DONE if all(finding.fine for finding in findings) else SOME_FAILED


def _recipe(
    path: Path | None,
    model: str | None,
    pixel_size_um: float | None,
    settings: tuple[str, ...],
    review_below: float | None,
) -> "Recipe":
    """Return the recipe of a file with the flags laid over it."""
    from pydantic import ValidationError

    from micro.errors import BadSetting
    from micro.recipe import Recipe

    asked = Recipe.load(path).model_dump() if path else {}
    flags = {"model": model, "pixel_size_um": pixel_size_um, "review_below": review_below}
    asked |= {name: value for name, value in flags.items() if value is not None}
    if "model" not in asked:
        raise BadSetting("Which model? Pass --model NAME, or --recipe FILE; `micro models` lists what is installed.")
    asked["settings"] = {**asked.get("settings", {}), **dict(map(_setting, settings))}
    try:
        return Recipe.model_validate(asked)
    except ValidationError as fault:
        reasons = "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in fault.errors())
        raise BadSetting(reasons) from fault


def _setting(text: str) -> "tuple[str, Setting]":
    """Read key=value; a value that looks like a number or a truth is one."""
    from micro.errors import BadSetting

    key, equals, value = text.partition("=")
    if not (equals and key):
        raise BadSetting(f"--set {text}: write it as key=value.")
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError:
        return key, value
    return key, parsed if isinstance(parsed, bool | int | float) else value


class _Step(Protocol):
    @property
    def done(self) -> int: ...

    @property
    def total(self) -> int: ...

    @property
    def note(self) -> str: ...


def _watched(steps: Generator[_Step, None, Result], unit: str) -> Result:
    """Run a generator to its end, showing how far it is; Ctrl-C closes it, which leaves what is done in order."""
    with _display(unit) as show, closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            show(step)


@contextmanager
def _display(unit: str) -> Iterator[Callable[[_Step], None]]:
    """Give a function that shows a step: on a bar where there is a terminal, on a line now and then elsewhere."""
    if not err.is_terminal:
        said = time.monotonic()

        def line(step: _Step) -> None:
            nonlocal said
            if step.done == step.total or time.monotonic() - said >= SECONDS_A_LINE:
                said = time.monotonic()
                err.print(f"{step.done} of {step.total} {unit}  {step.note}")

        yield line
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=err) as bar:
        shown = bar.add_task("", total=None)
        yield lambda step: bar.update(shown, completed=step.done, total=step.total, description=step.note)
