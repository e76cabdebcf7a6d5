"""`micro profile`: a microscope setting from flakes that are known, and from those that a run found."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from micro.cli.app import DONE, app, make_room
from micro.cli.screen import err, out


@app.command
def profile(
    *sources: Path,
    material: str,
    out_file: Annotated[Path, Parameter(name=["--out", "-o"])],
    oxide_nm: float | None = None,
    gamma: float | None = None,
) -> int:
    """Make a profile of one microscope setting, for `predict --set profile=FILE`.

    Five points of different layers or heights are enough. Where nobody has counted any, the folder of a run says what
    one microscope has shown: the terraces of one image then name the lone flake of another. All images must be taken
    with the same objective, lamp, camera and exposure, and on the same oxide, as those that are to be named.

    Parameters
    ----------
    sources
        CSV tables image,x,y,layers or image,x,y,height_nm: an image's path beside the table, a pixel on a flake, and
        its number of layers or its height, as AFM measures it. Or folders of runs of `micro predict`, whose flakes
        nobody needs to know.
    material
        graphene, mos2, ws2, mose2, wse2 or hbn.
    out_file
        YAML file of the profile.
    oxide_nm
        Nominal thickness of the oxide, if it is known.
    gamma
        1.0 for a linear camera, 2.2 for pixels encoded for a screen, if it is known.
    """
    from pydantic import ValidationError

    from micro import thin_film
    from micro.document import reasons
    from micro.errors import BadSetting
    from micro.line import colours
    from micro.tasks import flakes

    if not sources:
        raise BadSetting("Name a table of points that are known, or the folder of a run.")
    if any(out_file.resolve() == source.resolve() for source in sources):
        raise BadSetting(f"{out_file}: the profile would take the place of its own points. Give another --out.")
    runs = [source for source in sources if source.is_dir()]
    known = tuple(point for source in sources if source not in runs for point in flakes.read_points(source))
    seen = tuple(colour for folder in runs for colour in colours.of_run(folder))
    make_room(out_file)
    try:
        made = thin_film.Profile(material=material, oxide_nm=oxide_nm, gamma=gamma, points=known, seen=seen)  # type: ignore[arg-type]
    except ValidationError as fault:
        raise BadSetting(reasons(fault)) from fault
    made.save(out_file)
    holds = [f"{len(known)} points"] * bool(known) + [f"the colours of {len(seen)} flakes"] * bool(seen)
    out.print(f"{out_file}: {' and '.join(holds)} of {material}.")
    if known and len(known) + len(seen) > 1:
        answers = thin_film.named_by_the_others(made)
        right = sum(answer.agrees for answer in answers)
        out.print(f"{right} of {len(known)} points are named as you say from the others alone.")
        for (answer, agrees), point in zip(answers, known, strict=True):
            if not agrees:
                err.print(f"{point.image}: {point.known} by your table, {answer} by the other points.")
    for objection in thin_film.objections(made):
        err.print(objection)
    return DONE
