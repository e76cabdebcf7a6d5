"""One annotation, written as each tool writes it."""

import base64
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import roifile
import tifffile
from numpy.typing import NDArray
from skimage.draw import polygon2mask

from micro import formats

HEIGHT, WIDTH = 72, 96
NAME = "field_1.png"
# Corners (x, y) on the corners of pixels; no side meets the middle of a pixel, and two regions share a side.
REGIONS: tuple[tuple[str, tuple[tuple[int, int], ...]], ...] = (
    ("pore", ((8, 6), (29, 16), (25, 33), (9, 30))),
    ("carbide", ((29, 16), (61, 8), (71, 40), (25, 33))),
    ("pore", ((40, 50), (90, 50), (90, 64), (40, 64))),
    ("carbide", ((3, 41), (20, 45), (13, 65))),
)
CLASSES = {0: "background", 1: "carbide", 2: "pore"}


def image() -> NDArray[np.uint8]:
    random = np.random.default_rng(5)
    pixels = random.normal(120, 6, (HEIGHT, WIDTH)) + 50 * (instances() > 0)
    found: NDArray[np.uint8] = pixels.clip(0, 255).astype(np.uint8)
    return found


def mask(index: int) -> NDArray[np.bool_]:
    corners = np.array(REGIONS[index][1], float)[:, ::-1] - 0.5
    found: NDArray[np.bool_] = polygon2mask((HEIGHT, WIDTH), corners)
    return found


def instances() -> NDArray[np.int32]:
    """Region numbers in the order of their first pixels, as a reader is to give them."""
    labels = np.zeros((HEIGHT, WIDTH), np.int32)
    order = sorted(range(len(REGIONS)), key=lambda index: int(np.flatnonzero(mask(index))[0]))
    for number, index in enumerate(order, start=1):
        labels[mask(index)] = number
    return labels


def class_map() -> NDArray[np.int32]:
    values = {name: value for value, name in CLASSES.items()}
    labels = np.zeros((HEIGHT, WIDTH), np.int32)
    for index, (name, _) in enumerate(REGIONS):
        labels[mask(index)] = values[name]
    return labels


def write_png(path: Path, pixels: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


# --- masks: each takes the folder and the values to write -------------------------------------------------------------


def index_png(dtype: type) -> Callable[[Path, NDArray[np.int32]], None]:
    return lambda root, labels: write_png(root / "masks" / NAME, labels.astype(dtype))


def colours(root: Path, labels: NDArray[np.int32]) -> None:
    table = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0), (3, 40, 200), (90, 90, 1)], np.uint8)
    write_png(root / "masks" / NAME, table[labels][..., ::-1])


def greys_in_colour(root: Path, labels: NDArray[np.int32]) -> None:
    write_png(root / "masks" / NAME, np.repeat(labels.astype(np.uint8)[..., np.newaxis], 3, axis=2))


def micro_labels(root: Path, labels: NDArray[np.int32]) -> None:
    (root / "labels").mkdir(parents=True)
    formats.write_labels(root / "labels" / "field_1.tif", labels, 0.5)


def napari_labels(root: Path, labels: NDArray[np.int32]) -> None:
    (root / "labels").mkdir(parents=True)
    tifffile.imwrite(root / "labels" / "field_1_labels.tif", labels.astype(np.uint32))


def three_annotators(root: Path, labels: NDArray[np.int32]) -> None:
    for person in ("ada", "grace", "lise"):
        write_png(root / "masks" / person / NAME, labels.astype(np.uint8))


MASKS: dict[str, Callable[[Path, NDArray[np.int32]], None]] = {
    "index 8 bit": index_png(np.uint8),
    "index 16 bit": index_png(np.uint16),
    "micro labels, 32 bit": micro_labels,
    "napari labels": napari_labels,
    "greys in colour": greys_in_colour,
    "three annotators": three_annotators,
}


# --- files of annotation tools ----------------------------------------------------------------------------------------


def coco(root: Path, first: int, segmentation: Callable[[int], Any]) -> None:
    names = ["pore", "carbide"]
    annotations = [
        {"id": 40 + index, "image_id": 7, "category_id": first + names.index(name), "segmentation": segmentation(index)}
        for index, (name, _) in enumerate(REGIONS)
    ]
    write_json(
        root / "annotations" / "instances.json",
        {
            "images": [{"id": 7, "file_name": f"train/{NAME}", "width": WIDTH, "height": HEIGHT}],
            "categories": [{"id": first + number, "name": name} for number, name in enumerate(names)],
            "annotations": annotations,
        },
    )


def coco_polygon(index: int) -> list[list[float]]:
    return [[float(value) for corner in REGIONS[index][1] for value in corner]]


def run_lengths(flat: NDArray[np.bool_]) -> list[int]:
    changes = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def coco_runs(index: int) -> dict[str, Any]:
    return {"size": [HEIGHT, WIDTH], "counts": run_lengths(mask(index).ravel(order="F"))}


def coco_text(index: int) -> dict[str, Any]:
    """Run lengths in the compressed text of COCO: base 32, low digits first, each as a difference from the third on."""
    counts = run_lengths(mask(index).ravel(order="F"))
    text = ""
    for position, count in enumerate(counts):
        value = count - counts[position - 2] if position > 2 else count
        more = True
        while more:
            digit, value = value & 31, value >> 5
            more = not ((value == 0 and not digit & 16) or (value == -1 and digit & 16))
            text += chr((digit | 32 if more else digit) + 48)
    return {"size": [HEIGHT, WIDTH], "counts": text}


def labelme(root: Path, shape: Callable[[int], dict[str, Any]]) -> None:
    shapes = [{"label": name, "group_id": None, **shape(index)} for index, (name, _) in enumerate(REGIONS)]
    content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": NAME, "imageData": None}
    write_json(root / "images" / "field_1.json", {**content, "imageHeight": HEIGHT, "imageWidth": WIDTH})


def labelme_polygon(index: int) -> dict[str, Any]:
    return {"shape_type": "polygon", "points": REGIONS[index][1]}


def labelme_mask(index: int) -> dict[str, Any]:
    rows, columns = (np.flatnonzero(mask(index).any(axis=axis)) for axis in (1, 0))
    part = mask(index)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    data = cv2.imencode(".png", part.astype(np.uint8))[1].tobytes()
    corners = [[int(columns[0]), int(rows[0])], [int(columns[-1]), int(rows[-1])]]
    return {"shape_type": "mask", "points": corners, "mask": base64.b64encode(data).decode()}


def via_2(root: Path, as_project: bool) -> None:
    regions = [
        {
            "shape_attributes": {
                "name": "polygon",
                "all_points_x": [x for x, _ in corners],
                "all_points_y": [y for _, y in corners],
            },
            "region_attributes": {"phase": name},
        }
        for name, corners in REGIONS
    ]
    table = {f"{NAME}1234": {"filename": NAME, "size": 1234, "regions": regions, "file_attributes": {}}}
    write_json(root / "via.json", {"_via_settings": {}, "_via_img_metadata": table} if as_project else table)


def via_3(root: Path) -> None:
    options = {"0": "pore", "1": "carbide"}
    numbers = {name: key for key, name in options.items()}
    write_json(
        root / "via.json",
        {
            "project": {"pid": "x"},
            "config": {},
            "attribute": {"1": {"aname": "class", "type": 4, "options": options}},
            "file": {"1": {"fid": "1", "fname": NAME, "type": 2, "loc": 1, "src": ""}},
            "view": {"1": {"fid_list": ["1"]}},
            "metadata": {
                f"1_{index}": {
                    "vid": "1",
                    "flg": 0,
                    "z": [],
                    "xy": [7, *(value for corner in corners for value in corner)],
                    "av": {"1": numbers[name]},
                }
                for index, (name, corners) in enumerate(REGIONS)
            },
        },
    )


def cvat_xml(masks: bool = False) -> str:
    shapes = ""
    for index, (name, corners) in enumerate(REGIONS):
        if masks:
            rows, columns = (np.flatnonzero(mask(index).any(axis=axis)) for axis in (1, 0))
            part = mask(index)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            runs = ", ".join(map(str, run_lengths(part.ravel())))
            where = f'left="{columns[0]}" top="{rows[0]}" width="{part.shape[1]}" height="{part.shape[0]}"'
            shapes += f'<mask label="{name}" source="manual" rle="{runs}" {where} z_order="0"></mask>\n'
        else:
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners)
            shapes += f'<polygon label="{name}" source="manual" occluded="0" points="{points}" z_order="0"></polygon>\n'
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    opening = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
    return f'{opening}<image id="0" name="{NAME}" {size}>\n{shapes}</image></annotations>'


def cvat(root: Path, masks: bool) -> None:
    (root / "annotations.xml").write_text(cvat_xml(masks))


def cvat_zip(root: Path) -> None:
    (root / "images" / NAME).unlink()
    with zipfile.ZipFile(root / "task.zip", "w") as archive:
        archive.writestr("annotations.xml", cvat_xml())
        archive.writestr(f"images/{NAME}", cv2.imencode(".png", image())[1].tobytes())


def label_studio(root: Path, result: Callable[[int], dict[str, Any]]) -> None:
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    results = [{"id": f"r{index}", **size, **result(index)} for index in range(len(REGIONS))]
    said = [{"id": 1, "completed_by": 3, "was_cancelled": False, "result": results}]
    write_json(
        root / "project.json", [{"id": 9, "data": {"image": f"/data/upload/1/0a1b2c3d-{NAME}"}, "annotations": said}]
    )


def studio_polygon(index: int) -> dict[str, Any]:
    name, corners = REGIONS[index]
    points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in corners]
    return {"type": "polygonlabels", "value": {"points": points, "closed": True, "polygonlabels": [name]}}


def studio_brush(index: int) -> dict[str, Any]:
    values = np.repeat(mask(index).ravel() * np.uint8(255), 4)
    values[0] = 9  # some red where nothing was painted: only the opacity counts
    bits = f"{values.size:032b}" + f"{7:05b}" + "".join(f"{width - 1:04b}" for width in (3, 4, 8, 16))
    start = 0
    for stop in [*(np.flatnonzero(np.diff(values)) + 1).tolist(), values.size]:
        while start < stop:
            if start % 3:  # some runs as one value repeated, some value by value
                length = min(stop - start, 2**16)
                bits += f"1{3:02b}{length - 1:016b}{values[start]:08b}"
            else:
                length = min(stop - start, 2**3)
                bits += f"0{0:02b}{length - 1:03b}" + f"{values[start]:08b}" * length
            start += length
    bits += "0" * (-len(bits) % 8)
    packed = [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
    return {"type": "brushlabels", "value": {"format": "rle", "rle": packed, "brushlabels": [REGIONS[index][0]]}}


def qupath(root: Path) -> None:
    features = [
        {
            "type": "Feature",
            "id": f"a{index}",
            "geometry": {"type": "Polygon", "coordinates": [[*corners, corners[0]]]},
            "properties": {"objectType": "annotation", "classification": {"name": name, "color": [1, 2, 3]}},
        }
        for index, (name, corners) in enumerate(REGIONS)
    ]
    write_json(root / "annotations" / "field_1.geojson", {"type": "FeatureCollection", "features": features})


def imagej(root: Path) -> None:
    (root / "rois").mkdir(parents=True)
    with zipfile.ZipFile(root / "rois" / "field_1_RoiSet.zip", "w") as archive:
        for index, (name, corners) in enumerate(REGIONS):
            roi = roifile.ImagejRoi.frompoints(np.array(corners, np.int32), name=f"{name}-{index}")
            buffer = io.BytesIO(roi.tobytes())
            archive.writestr(f"{name}-{index}.roi", buffer.getvalue())


TOOLS: dict[str, Callable[[Path], None]] = {
    "COCO polygons, categories from 0": lambda root: coco(root, 0, coco_polygon),
    "COCO polygons, categories from 1": lambda root: coco(root, 1, coco_polygon),
    "COCO run lengths": lambda root: coco(root, 1, coco_runs),
    "COCO compressed": lambda root: coco(root, 0, coco_text),
    "LabelMe polygons": lambda root: labelme(root, labelme_polygon),
    "LabelMe masks": lambda root: labelme(root, labelme_mask),
    "VIA 2 project": lambda root: via_2(root, as_project=True),
    "VIA 2 export": lambda root: via_2(root, as_project=False),
    "VIA 3": via_3,
    "CVAT polygons": lambda root: cvat(root, masks=False),
    "CVAT masks": lambda root: cvat(root, masks=True),
    "CVAT zip": cvat_zip,
    "Label Studio polygons": lambda root: label_studio(root, studio_polygon),
    "Label Studio brush": lambda root: label_studio(root, studio_brush),
    "QuPath GeoJSON": qupath,
    "ImageJ ROI zip": imagej,
}
