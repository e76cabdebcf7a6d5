"""`micro profile`: a microscope setting from a few flakes whose layers or heights are known."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from micro.cli.app import DONE, app, make_room
from micro.cli.screen import err, out


@app.command
def profile(
    points: Path,
    *,
    material: str,
    out_file: Annotated[Path, Parameter(name=["--out", "-o"])],
    oxide_nm: float | None = None,
    gamma: float | None = None,
) -> int:
    """Make a profile of one microscope setting from flakes that are known, for `predict --set profile=FILE`.

    Five points of different layers or heights are enough. All images must be taken with the same objective, lamp,
    camera and exposure as those that are to be named.

    Parameters
    ----------
    points
        CSV table image,x,y,layers or image,x,y,height_nm: an image's path beside the table, a pixel on a flake, and its
        number of layers or its height, as AFM measures it.
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
    from micro.tasks import flakes

    if out_file.resolve() == points.resolve():
        raise BadSetting(f"{out_file}: the profile would take the place of its own points. Give another --out.")
    known = flakes.read_points(points)
    make_room(out_file)
    try:
        made = thin_film.Profile(material=material, oxide_nm=oxide_nm, gamma=gamma, points=known)  # type: ignore[arg-type]
    except ValidationError as fault:
        raise BadSetting(reasons(fault)) from fault
    made.save(out_file)
    out.print(f"{out_file}: {len(known)} points of {material}.")
    if len(known) > 1:
        answers = thin_film.named_by_the_others(made)
        right = sum(answer.agrees for answer in answers)
        out.print(f"{right} of {len(known)} points are named as you say from the others alone.")
        for (answer, agrees), point in zip(answers, known, strict=True):
            if not agrees:
                err.print(f"{point.image}: {point.known} by your table, {answer} by the other points.")
    return DONE
