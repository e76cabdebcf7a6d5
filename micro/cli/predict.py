"""`micro predict`: images in, results out."""

from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from micro.cli.app import DONE, NOT_GOOD, SOME_FAILED, app, stopping
from micro.cli.scale import AS_FILES_SAY, Scale
from micro.cli.screen import Shown, err, out, watched

if TYPE_CHECKING:
    from micro.line.watcher import Event, Watcher
    from micro.recipe import Recipe, Setting

MOST_FAILURES_SHOWN = 20
MOST_REMARKS_SHOWN = 5


@app.command
def predict(
    *sources: str,
    model: str | None = None,
    out_dir: Annotated[Path, Parameter(name=["--out", "-o"])],
    scale: Scale = AS_FILES_SAY,
    settings: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    review_below: float | None = None,
    recipe: Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    fail_on_ng: bool = False,
    watch: bool = False,
    settle: float = 0.5,
    marker: str | None = None,
    poll: float | None = None,
    store: Annotated[str | None, Parameter(env_var="MICRO_STORE")] = None,
    retry_quarantined: bool = False,
    give_up_after: float = 600,
    log: Path | None = None,
    metrics: str | None = None,
    shard: str | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    progress: Shown = "auto",
) -> int:
    """Find, measure and judge what images show, and write labels, tables, a run record and a report.

    Exit code: 0 all done, 1 some images failed (listed), 2 nothing could start or results could not be stored for too
    long, 3 an NG with --fail-on-ng, 130 interrupted: what was in hand is stored, and the same command goes on.

    Parameters
    ----------
    sources
        Images, folders (with all below them), globs, text lists of images, or addresses such as s3://bucket/day1.
    model
        Name of an installed bundle, or the folder of one.
    out_dir
        Folder for the results; the same command goes on where an earlier one stopped.
    scale
        How large a pixel is, whatever the files say.
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
        Exit with 3 when any image is NG; not with --watch, which never ends by itself.
    watch
        Go on for ever with files that appear or change in the sources, until interrupted.
    settle
        Seconds for which a watched file must have stood still before it counts; 0 where files are renamed into place.
    marker
        A watched file counts when a file of its name and this suffix appears, such as .done.
    poll
        Seconds between looks through watched folders; by default 60, and 2 on network drives and servers.
    store
        Address of a PostgreSQL database for the ledger (postgresql+pg8000://...), which several workers may share.
    retry_quarantined
        Judge again what failed before; otherwise only if the file has changed since.
    give_up_after
        Seconds to wait for a full disk or a lost database before the run stops.
    log
        File for one line of JSON an image; full files are put away beside it, and the oldest goes.
    metrics
        PORT or HOST:PORT at which Prometheus finds the run's counters; this machine alone if no host is given.
    shard
        I/N: only the share of the I-th of N jobs, each with an --out of its own or all with one --store.
    cluster
        Work on a Ray cluster: its address, or auto for the one that runs on this machine, or else a new one there.
    workers
        Engines on the cluster; one a GPU, or one a machine without, if not given.
    progress
        auto: a bar on a terminal, a line now and then elsewhere; json: one line of JSON an image.
    """
    from micro import bundle
    from micro.errors import BadSetting
    from micro.line import arrivals
    from micro.line.cluster import Cluster
    from micro.line.run import Place, run_steps
    from micro.line.shard import shard as share
    from micro.line.sources import Search
    from micro.line.station import Judge, Manners
    from micro.report.run import at_the_end

    asked = _recipe(recipe, model, scale.given().um, settings, review_below)
    search = Search(sources)
    suffix = arrivals.marker_of(marker)
    if watch and (shard or cluster):
        raise BadSetting("--watch takes no --shard and no --cluster: start several runs with one --store instead.")
    if watch and fail_on_ng:
        raise BadSetting(
            "--watch takes no --fail-on-ng: it ends when it is interrupted, with exit code 130. Verdicts stand in the "
            "ledger, and in --log."
        )
    if not watch and (marker is not None or poll is not None):
        raise BadSetting("--marker and --poll say how folders are watched. Pass --watch too, or leave them out.")
    if workers is not None and (not cluster or workers < 1):
        raise BadSetting(f"--workers {workers}: is how many engines work on a --cluster, at least 1.")
    for name, seconds in (("settle", settle), ("poll", poll), ("give-up-after", give_up_after)):
        if seconds is not None and not seconds >= 0:
            raise BadSetting(f"--{name} {seconds:g}: is a number of seconds, 0 or more.")
    found = [] if watch else search.find()
    found = share(found, shard) if shard else found
    chosen = bundle.load(asked.model)
    engine: Judge | Cluster
    if cluster:
        engine = Cluster.of(chosen, asked, device, cluster, workers)
    else:
        from micro.engine import Engine  # after the sources are known to exist: torch takes seconds

        engine = Engine(chosen, asked, device)
    manners = Manners(retry_quarantined, give_up_after, settle)
    coming = arrivals.Watched(search, settle, marker=suffix, poll_s=poll) if watch else arrivals.Listed(found, settle)
    with ExitStack() as ending, closing(coming), stopping() as stop:
        remarks = _Remarks()
        watchers: list[Watcher] = [*_watchers(log, metrics, ending), at_the_end(out_dir, store), remarks]
        place = Place(out_dir, store, overwrite)
        steps = run_steps(coming, engine, asked, place, manners, watchers=watchers, stop=stop)
        summary = watched(steps, "images", progress)
    for name, reason in list(summary.failures.items())[:MOST_FAILURES_SHOWN]:
        err.print(f"quarantined: {reason if name in reason else f'{name}: {reason}'}")
    if summary.quarantined > MOST_FAILURES_SHOWN:
        err.print(f"... and {summary.quarantined - MOST_FAILURES_SHOWN} more; {out_dir / 'images.csv'} lists all.")
    remarks.show()
    kept = f" ({summary.unchanged} of them from an earlier run)" if summary.unchanged else ""
    out.print(
        f"{summary.done} images done{kept}, {summary.quarantined} quarantined, {summary.ng} NG, "
        f"{summary.seconds:.1f} s. Results: {out_dir}"
    )
    if summary.quarantined:
        return SOME_FAILED
    return NOT_GOOD if fail_on_ng and summary.ng else DONE


class _Remarks:
    """What was remarked on images, to be shown when the run is over: each remark once."""

    def __init__(self) -> None:
        self._images_of: Counter[str] = Counter()

    def __call__(self, event: "Event") -> None:
        from micro.line.watcher import Stored

        if isinstance(event, Stored):
            for note in event.found.notes:
                # a watched line runs for ever, and remarks may hold figures
                if note in self._images_of or len(self._images_of) <= MOST_REMARKS_SHOWN:
                    self._images_of[note] += 1

    def show(self) -> None:
        for note, count in self._images_of.most_common(MOST_REMARKS_SHOWN):
            err.print(f"remark on {count} image{'s' * (count > 1)}: {note}")
        if len(self._images_of) > MOST_REMARKS_SHOWN:
            err.print("... and further remarks: see notes in images.csv.")


def _watchers(log: Path | None, metrics: str | None, ending: ExitStack) -> "list[Watcher]":
    """Return who listens to the run; ending: closes what they need open."""
    from micro.line.journal import Journal
    from micro.line.metrics import Metrics, served

    watchers: list[Watcher] = [] if log is None else [Journal(log)]
    if metrics is not None:
        counters = Metrics()
        ending.enter_context(served(counters, metrics))
        watchers.append(counters)
    return watchers


def _recipe(
    path: Path | None,
    model: str | None,
    pixel_size_um: float | None,
    settings: tuple[str, ...],
    review_below: float | None,
) -> "Recipe":
    """Return the recipe of a file with the flags laid over it."""
    from pydantic import ValidationError

    from micro.document import reasons
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
        raise BadSetting(reasons(fault)) from fault


def _setting(text: str) -> "tuple[str, Setting]":
    """Read key=value."""
    from micro.errors import BadSetting
    from micro.recipe import setting_of

    key, equals, value = text.partition("=")
    if not (equals and key):
        raise BadSetting(f"--set {text}: write it as key=value.")
    return key, setting_of(value)
