"""`micro suggest`: which images to annotate next."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from micro.cli.app import DONE, SOME_FAILED, app, make_room
from micro.cli.scale import AS_FILES_SAY, Scale
from micro.cli.screen import Shown, err, out, watched
from micro.errors import UnreadableImage

if TYPE_CHECKING:
    from micro.line.sources import Source
    from micro.micrograph import Micrograph

PRINTED = 20


@app.command
def suggest(
    *sources: str,
    model: str,
    known: Path | None = None,
    out_file: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("suggest.csv"),
    scale: Scale = AS_FILES_SAY,
    device: str = "auto",
    progress: Shown = "auto",
) -> int:
    """Rank images by what annotating them would teach: those that a bundle doubts and that resemble none before them.

    Parameters
    ----------
    sources
        Images that are not annotated yet: files, folders (with all below them), globs, or text lists.
    model
        Name of an installed bundle, or the folder of one, such as that of the last training.
    known
        Folder with the images that are annotated already; equal files among the sources are left out.
    out_file
        CSV with the whole list: rank, image, doubt, novelty.
    scale
        How large a pixel is, whatever the files say.
    device
        auto, cpu, cuda, cuda:N or mps.
    progress
        auto: a bar on a terminal, a line now and then elsewhere; json: one line of JSON an image.
    """
    from micro.line.sources import find

    reader = _Reader(scale.given().um)
    make_room(out_file)
    asked = find(sources)
    there = [] if known is None else find([str(known / "images" if (known / "images").is_dir() else known)])
    from micro.engine import Engine
    from micro.suggestion import rank_steps

    engine = Engine.load(model, device)
    steps = rank_steps(engine, reader.new(asked), reader.known(there), len(asked) + len(there))
    found = watched(steps, "images", progress)
    with out_file.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("rank", "image", "doubt", "novelty"))
        for rank, each in enumerate(found, start=1):
            far = "" if each.novelty is None else f"{each.novelty:.4g}"
            table.writerow((rank, each.image, f"{each.doubt:.4g}", far))
    out.print("rank   doubt  novelty  image")
    for rank, each in enumerate(found[:PRINTED], start=1):
        far = "      -" if each.novelty is None else f"{each.novelty:7.2f}"
        out.print(f"{rank:4d}  {each.doubt:6.4f}  {far}  {each.image}")
    out.print(f"{out_file}: {len(found)} images; {reader.left_out} are annotated already.")
    return SOME_FAILED if reader.failed else DONE


class _Reader:
    """Reads images and knows them again.

    failed: how many could not be read. left_out: how many of the new ones are known.
    """

    def __init__(self, pixel_size_um: float | None) -> None:
        self._pixel_size_um = pixel_size_um
        self.failed = self.left_out = 0
        self._digests: set[str | None] = set()

    def known(self, sources: "Sequence[Source]") -> "Iterator[Micrograph]":
        """Yield images that are annotated."""
        for image, sha256 in self._read(sources):
            self._digests.add(sha256)
            yield image

    def new(self, sources: "Sequence[Source]") -> "Iterator[Micrograph]":
        """Yield images that no known file equals."""
        for image, sha256 in self._read(sources):
            if sha256 in self._digests:
                self.left_out += 1
            else:
                yield image

    def _read(self, sources: "Sequence[Source]") -> "Iterator[tuple[Micrograph, str | None]]":
        from micro.line.reading import Look, Reader

        reader = Reader(0, self._pixel_size_um)
        for source in sources:
            look = Look(source)
            try:
                image = reader.read(look)
            except UnreadableImage as fault:
                self.failed += 1
                err.print(f"left out: {fault}")
                continue
            yield image, look.sha256
