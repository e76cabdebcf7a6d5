"""`micro check`, `micro models` and `micro doctor`: what is installed, and whether it works."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from micro.cli.app import DONE, SOME_FAILED, app
from micro.cli.scale import AS_FILES_SAY, Scale
from micro.cli.screen import Shown, err, out, watched
from micro.errors import MicroError

if TYPE_CHECKING:
    from micro.bundle import Bundle
    from micro.drift import Statistics
    from micro.micrograph import Micrograph

# Parts of a bundle's sample on which an export is compared, where nothing else is asked.
SAMPLE_VIEWS = 100
models = App(name="models", help="List bundles, or show one.")
app.command(models)


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
        called = name if name == card.name else f"{name}, on its card {card.name},"
        out.print(f"{called} {card.version}  ({card.task}, {card.channels}, {scale})\n  {card.summary}")
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
    from micro.card import START

    card = bundle.load(name).card
    out.print(json.dumps(card.model_dump(), indent=2, ensure_ascii=False))
    if card.task == START:
        return DONE
    for key, info in tasks.find(card.task).settings.model_fields.items():
        value = card.settings.get(key, info.default)
        out.print(f"--set {key}={'(the one above)' if isinstance(value, dict) else value}  {info.description}")
    return DONE


@models.command(name="reference")
def models_reference(
    name: str, *sources: str, learned_from: bool = False, scale: Scale = AS_FILES_SAY, device: str = "auto"
) -> int:
    """Store what normal images look like to a bundle, for the drift alarm of a line; an earlier reference goes.

    Training leaves one in every bundle. Give a line's own good images to a bundle that was trained elsewhere.

    Parameters
    ----------
    name
        Name of an installed bundle, or the folder of one; the reference is written into that folder.
    sources
        Images, folders (with all below them), globs, or text lists of images; a few hundred serve best.
    learned_from
        The bundle learned from these images: its scores on them are surer than on any others, and are left out.
    scale
        How large a pixel is, whatever the files say.
    device
        auto, cpu, cuda, cuda:N or mps.
    """
    from micro import bundle, drift
    from micro.line.reading import Look, Reader
    from micro.line.sources import find

    reader = Reader(0, scale.given().um)
    chosen = bundle.load(name)
    found = find(sources)
    look: Callable[[Micrograph], Statistics] = drift.statistics
    if not learned_from:
        from micro import trial
        from micro.engine import Engine

        look = partial(trial.statistics, Engine(chosen, device=device))
    rows = []
    for source in found:
        try:
            rows.append(look(reader.read(Look(source))))
        except MicroError as fault:
            err.print(f"left out: {fault}")
    if not rows:
        raise MicroError(f"{', '.join(sources)}: no image could be read, and {name} keeps the reference that it has.")
    # a bundle goes to others, who have no use for where this machine keeps its folders
    named = ("/".join(source.rstrip("/").split("/")[-2:]) for source in sources)
    made_from = f"{len(rows)} images of {', '.join(named)}"
    chosen.keep_reference(drift.reference(rows, f"{made_from}, that trained it" if learned_from else made_from))
    out.print(f"{name}: {len(rows)} images are its reference now ({chosen.folder / bundle.REFERENCE}).")
    if len(rows) < drift.LEAST_IMAGES:
        err.print(f"By fewer than {drift.LEAST_IMAGES} images the alarm judges nothing.")
    return DONE


@models.command(name="export")
def models_export(
    name: str,
    *sources: str,
    to: Literal["onnx", "torchscript", "bioimageio"],
    out_dir: Annotated[Path, Parameter(name=["--out", "-o"])],
    views: int | None = None,
    scale: Scale = AS_FILES_SAY,
    progress: Shown = "auto",
) -> int:
    """Write a bundle's networks for another runtime, and compare its decisions with the engine's, image by image.

    The network takes scaled pixels and gives probabilities. Exit code 2 when a decision or a probability differs.

    Parameters
    ----------
    name
        Name of an installed bundle, or the folder of one.
    sources
        Images to compare on, as for `micro predict`; parts of the bundle's own sample if none is given.
    to
        onnx (`pip install "micro[export]"`), torchscript, or bioimageio for a zip that the BioImage Model Zoo and its
        tools read (`pip install "micro[bioimageio]"`).
    out_dir
        Folder for the networks and parity.json.
    views
        Compare on so many parts of the images, or of the sample. If not given: the images whole, or 100 parts of the
        sample.
    scale
        How large a pixel is, whatever the files say.
    progress
        auto: a bar on a terminal, a line now and then elsewhere; json: one line of JSON every image.
    """
    from micro import bundle, export

    chosen = bundle.load(name)
    images = _compared_on(chosen, sources, views, scale)
    out.print(str(watched(export.export_steps(chosen, to, out_dir, images), "images", progress)))
    return DONE


@models.command(name="compile")
def models_compile(
    name: str, *sources: str, views: int | None = None, scale: Scale = AS_FILES_SAY, progress: Shown = "auto"
) -> int:
    """Put a bundle's classifier into it as a graph with which CPUs answer sooner, after comparing the answers.

    Needs `pip install "micro[export]"`; whoever uses the bundle then does not. Exit code 2 when an answer differs, and
    the bundle stays as it is.

    Parameters
    ----------
    name
        Name of an installed bundle, or the folder of one; the graph is written into that folder.
    sources
        Images to compare on, as for `micro predict`; parts of the bundle's own sample if none is given.
    views
        Compare on so many parts of the images, or of the sample. If not given: the images whole, or 100 parts of the
        sample.
    scale
        How large a pixel is, whatever the files say.
    progress
        auto: a bar on a terminal, a line now and then elsewhere; json: one line of JSON every image.
    """
    from micro import bundle, export

    chosen = bundle.load(name)
    out.print(
        str(watched(export.compile_steps(chosen, _compared_on(chosen, sources, views, scale)), "images", progress))
    )
    return DONE


@models.command(name="add")
def models_add(source: str) -> int:
    """Check a bundle and install it under its name: a folder, or a zip in a file or at a URL.

    It must answer its own sample as it did when it was made. Nothing in a bundle can run code.

    Parameters
    ----------
    source
        Folder, zip file, or URL that fsspec opens (https://, s3://).
    """
    from micro import installing

    found = installing.add(source)
    out.print(f"{found.bundle.card.name} {found.bundle.card.version}: {found.says}; in {found.bundle.folder}")
    return DONE


@models.command(name="gate")
def models_gate(
    classifier: str,
    segmenter: str,
    *,
    out_dir: Annotated[Path, Parameter(name=["--out", "-o"])],
    ok_classes: str = "",
    device: str = "auto",
) -> int:
    """Make one bundle of two: the first names each frame, and only where that may not ship the second searches it.

    Parameters
    ----------
    classifier
        Bundle that names whole frames, by name or folder.
    segmenter
        Bundle of the same task that finds regions.
    out_dir
        Folder for the new bundle; its name is the bundle's.
    ok_classes
        Classes of frames that pass unsearched, separated by commas; the segmenter's first class if not given.
    device
        auto, cpu, cuda, cuda:N or mps.
    """
    import shlex
    import sys

    from micro import bundle, trial
    from micro.engine import Engine

    second = bundle.load(segmenter)
    names = tuple(name.strip() for name in ok_classes.split(",") if name.strip())
    command = shlex.join(["micro", *sys.argv[1:]])
    made = bundle.gated(out_dir, bundle.load(classifier), second, command=command, ok_classes=names)
    sample = trial.sample_of(second)
    trial.keep_proof(out_dir, sample, Engine(made, device=device).predict(sample))
    out.print(f"{made.card.name}: {trial.prove(made, device)}; in {out_dir}")
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


def _compared_on(bundle: "Bundle", sources: tuple[str, ...], views: int | None, scale: Scale) -> list["Micrograph"]:
    """Return the images that are named, or so many parts of them, or of a bundle's sample."""
    from micro import export, trial
    from micro.line.reading import Look, Reader
    from micro.line.sources import find

    if not sources:
        return export.views([trial.sample_of(bundle)], SAMPLE_VIEWS if views is None else views)
    reader = Reader(0, scale.given().um)
    if views is None:
        return [reader.read(Look(source)) for source in find(sources)]
    found = find(sources)
    some = found[:: -(-len(found) // max(1, views))]
    return export.views([reader.read(Look(source)) for source in some], views)
