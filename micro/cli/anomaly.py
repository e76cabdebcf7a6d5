"""`micro anomaly`: how little images resemble normal ones, and where."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from micro.cli.app import DONE, NOT_GOOD, SOME_FAILED, app, make_room
from micro.cli.screen import Shown, err, out, watched
from micro.errors import UnreadableImage

if TYPE_CHECKING:
    from micro.line.sources import Source
    from micro.micrograph import Micrograph

anomaly = App(name="anomaly", help="Remember what is normal, and find what is not.")
app.command(anomaly)


@anomaly.command
def learn(
    *sources: str,
    model: str,
    out_file: Annotated[Path, Parameter(name=["--out", "-o"])],
    device: str = "auto",
    progress: Shown = "auto",
) -> int:
    """Remember what normal images look like to a bundle's network; no defect and no annotation is needed.

    The last fifth of the list is kept apart, and says how strange a normal image may be: give images of all that is
    normal, in the order in which they were taken.

    Parameters
    ----------
    sources
        Normal images: files, folders (with all below them), globs, or text lists. What a bundle was trained on makes a
        memory that says which images are not like that.
    model
        Bundle whose network looks at them, by name or folder.
    out_file
        File for the memory, such as normal.safetensors.
    device
        auto, cpu, cuda, cuda:N or mps.
    progress
        auto: a bar on a terminal, a line now and then elsewhere; json: one line of JSON an image.
    """
    from micro.line.sources import find

    make_room(out_file)
    found = find(sources)
    from micro import bundle
    from micro.anomaly import Encoder, learn_steps

    encoder = Encoder(bundle.load(model), device)
    memory = watched(learn_steps(encoder, _read(found), len(found)), "images", progress)
    memory.save(out_file)
    out.print(f"{out_file}: {len(memory.patches)} patches of {memory.images} images, seen by {memory.model}.")
    return DONE if memory.images == len(found) else SOME_FAILED


@anomaly.command(name="find")
def find_strange(
    *sources: str,
    memory: Path,
    out_dir: Annotated[Path, Parameter(name=["--out", "-o"])],
    model: str | None = None,
    device: str = "auto",
    fail_on_ng: bool = False,
) -> int:
    """Say of each image how strange it is, and draw where; above 1 it is not like what was remembered.

    Writes anomalies.csv (image, score, is_normal), and pictures of those that are not normal, the strange lit.

    Parameters
    ----------
    sources
        Images, folders (with all below them), globs, or text lists of images.
    memory
        File that `micro anomaly learn` wrote.
    out_dir
        Folder for the table and the pictures.
    model
        The bundle that the memory was made with, where it is not installed under its name.
    device
        auto, cpu, cuda, cuda:N or mps.
    fail_on_ng
        Exit with 3 when any image is not normal.
    """
    from micro.line.sources import find

    found = find(sources)
    from micro import bundle
    from micro.anomaly import Encoder, Memory
    from micro.report.explained import heated, places, write_picture

    place_of = places(found, out_dir)
    normal = Memory.load(memory)
    encoder = Encoder(bundle.load(model or normal.model), device)
    out_dir.mkdir(parents=True, exist_ok=True)
    read = strange = 0
    with (out_dir / "anomalies.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("image", "score", "is_normal"))
        for image in _read(found):
            if image is None:
                continue
            read += 1
            looked = normal.look(encoder, image)
            table.writerow((image.name, f"{looked.score:.4g}", looked.score <= 1))
            if looked.score > 1:
                strange += 1
                write_picture(heated(image, (looked.heat / 2).clip(0, 1)), place_of[image.name])
                out.print(f"{image.name}: {looked.score:.2f}, not like what was remembered. {place_of[image.name]}")
    out.print(f"{read} images, {strange} not normal. {out_dir / 'anomalies.csv'}")
    if read < len(found):
        return SOME_FAILED
    return NOT_GOOD if fail_on_ng and strange else DONE


def _read(sources: "Sequence[Source]") -> "Iterator[Micrograph | None]":
    """Yield the image of each source, None where it cannot be read."""
    from micro.line.reading import Look, Reader

    reader = Reader(0)
    for source in sources:
        try:
            image = reader.read(Look(source))
        except UnreadableImage as fault:
            err.print(f"left out: {fault}")
            yield None
        else:
            yield image
