"""A folder as people corrected it since."""

from collections.abc import Sequence
from dataclasses import replace

from micro.errors import BadFolder
from micro.folder.encoding import reencoded, tells_class
from micro.folder.folder import Annotated, AnnotatedFolder
from micro.folder.values import CLASSES, class_numbers, strange_values


def corrected(folder: AnnotatedFolder, said: Sequence[Annotated]) -> AnnotatedFolder:
    """Return a folder as people corrected it since: their word on an image that is in it, and further images behind.

    said: frames with a class of the folder, or masks whose values mean what they mean in the folder.
    Raises BadFolder with the list of those that say something that the folder cannot.
    """
    names = dict(folder.values)
    problems = []
    for item in said:
        if (item.labels is None) != (folder.annotation == "frames"):
            problems.append(f"{item.image.name}: corrected with a {'class' if item.labels is None else 'mask'}.")
        elif item.labels is None and item.class_name not in folder.classes:
            problems.append(f"{item.image.name}: no class {item.class_name!r} in the folder.")
        elif names and item.labels is not None and (strange := strange_values(item.labels, names)):
            problems.append(f"{item.image.name}: values that {CLASSES} does not name: {', '.join(map(str, strange))}.")
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise BadFolder(f"{folder.root}: corrections that do not fit: {len(problems)}\n{listed}")
    if tells_class(folder.images):
        said = [replace(item, image=reencoded(item.image)) for item in said]
    words = {
        item.digest: replace(item, labels=class_numbers(item.labels, names))
        if names and item.labels is not None
        else item
        for item in said
    }
    own = [
        replace(item, labels=word.labels, class_name=word.class_name, region_classes=())
        if (word := words.get(item.digest))
        else item
        for item in folder.images
    ]
    known = {item.digest for item in own}
    further = [word for digest, word in words.items() if digest not in known]
    remark = f"corrected since: {len(words) - len(further)} images of the folder, and {len(further)} further ones"
    return replace(folder, images=(*own, *further), remarks=(*folder.remarks, remark))
