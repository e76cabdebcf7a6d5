import io
import json
import re
import zipfile
from contextlib import suppress

import cv2
import numpy as np
import pytest
import roifile
from annotation_tools import (
    CLASSES,
    HEIGHT,
    MASKS,
    NAME,
    TOOLS,
    WIDTH,
    class_map,
    colours,
    cvat_xml,
    image,
    instances,
    label_studio,
    mask,
    qupath,
    studio_brush,
    studio_polygon,
    write_json,
    write_png,
)

from micro import annotations, folder, tasks, training
from micro.annotations import shapes
from micro.errors import BadFolder
from micro.training.samples import Sampler


def written(root, write):
    write_png(root / "images" / NAME, image())
    write(root)
    return root


def with_classes(root, table=CLASSES):
    (root / "classes.yaml").write_text("".join(f"{value}: {name}\n" for value, name in table.items()))
    return root


def listed(root, wanted="instances"):
    with pytest.raises(BadFolder) as fault:
        folder.read(root, [wanted])
    assert "problems found" in str(fault.value)
    return str(fault.value)


def test_one_annotation_in_every_form_is_one_training_set(tmp_path):
    forms = {name: lambda root, write=write: write(root, instances()) for name, write in MASKS.items()} | {
        "colours": lambda root: colours(root, instances()),
        **TOOLS,
    }
    task = tasks.find("grains")
    batches, plan = {}, None
    for number, (form, write) in enumerate(forms.items()):
        read = folder.read(written(tmp_path / str(number), write), ["instances"])
        assert [item.image.name for item in read.images] == [NAME], form
        np.testing.assert_array_equal(read.images[0].labels, instances(), form)
        if plan is None:
            plan = training.plan(read, "grains", 1).model_copy(update={"batch": 2, "crop_px": 64})
        batch = Sampler(plan, task, [read.images]).batch(3)
        batches[form] = [part.numpy().tobytes() for part in (batch.pixels, batch.target, batch.weight)]
    assert len(batches) == len(MASKS) + 1 + len(TOOLS)
    assert all(batch == batches["index 8 bit"] for batch in batches.values())


def test_one_class_map_in_every_form_is_one_training_set(tmp_path):
    forms = {name: lambda root, write=write: write(root, class_map()) for name, write in MASKS.items()} | TOOLS
    for number, (form, write) in enumerate(forms.items()):
        read = folder.read(with_classes(written(tmp_path / str(number), write)))
        assert (read.annotation, read.classes) == ("classes", ("background", "carbide", "pore"))
        np.testing.assert_array_equal(read.images[0].labels, class_map(), form)


def test_without_a_table_the_names_in_a_file_are_classes_where_a_task_wants_these(tmp_path):
    for number, (form, write) in enumerate(TOOLS.items()):
        read = folder.read(written(tmp_path / str(number), write), ["classes"])
        assert read.classes == ("background", "carbide", "pore"), form
        np.testing.assert_array_equal(read.images[0].labels, class_map(), form)


def test_colours_are_named_as_colours(tmp_path):
    colours(written(tmp_path, lambda root: None), class_map())
    with_classes(tmp_path, {"'#000000'": "background", "'#ff0000'": "carbide", "'#00ff00'": "pore"})
    read = folder.read(tmp_path)
    order = {name: number for number, name in enumerate(read.classes)}
    numbers = np.array([order[CLASSES[value]] for value in range(3)])
    np.testing.assert_array_equal(read.images[0].labels, numbers[class_map()])


# --- broken in five ways ----------------------------------------------------------------------------------------------


def annotation_files(root):
    return sorted(
        path for path in root.rglob("*") if path.is_file() and (path.parent.name != "images" or path.suffix == ".json")
    )


def cut(root):
    for path in annotation_files(root):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def lose_the_image(root):
    paths = list((root / "images").glob("*.png"))
    for path in paths:
        path.rename(path.with_name("another.png"))
    for path in root.glob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            kept = archive.read("annotations.xml")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("annotations.xml", kept)


def shrink_the_image(root):
    small = image()[:4, :4]
    if (root / "images" / NAME).exists():
        write_png(root / "images" / NAME, small)
    for path in root.glob("*.zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("annotations.xml", cvat_xml())
            archive.writestr(f"images/{NAME}", cv2.imencode(".png", small)[1].tobytes())


def empty(root):
    for path in annotation_files(root):
        path.write_bytes(b"")


def name_other_classes(root):
    with_classes(root, {0: "background", 9: "ferrite", 10: "bainite"})


BREAKS = (cut, lose_the_image, shrink_the_image, empty, name_other_classes)


@pytest.mark.parametrize("form", [*MASKS, *TOOLS])
def test_each_form_broken_in_five_ways_gives_a_list_that_names_a_file(tmp_path, form):
    for number, spoil in enumerate(BREAKS):
        root = tmp_path / str(number)
        write = TOOLS.get(form) or (lambda root: MASKS[form](root, class_map()))
        spoil(written(root, write))
        message = listed(root, "classes" if spoil is name_other_classes else "instances")
        lines = message.splitlines()[1:]
        assert lines, spoil.__name__
        assert all(re.search(r"\.(png|tif|json|geojson|xml|zip|roi)", line) for line in lines), message


@pytest.mark.parametrize("form", [name for name in TOOLS if not name.startswith(("CVAT", "ImageJ"))])
def test_json_with_anything_in_any_place_gives_a_list_and_no_traceback(tmp_path, form):
    root = written(tmp_path, TOOLS[form])
    path = next(path for path in annotation_files(root))
    content = json.loads(path.read_text())
    random = np.random.default_rng(0)
    for _ in range(60):
        spoiled = json.loads(json.dumps(content))
        place, key = spoiled, None
        while isinstance(place, (dict, list)) and place and (key is None or random.random() < 0.85):
            holder, key = (
                place,
                random.choice(list(place)) if isinstance(place, dict) else int(random.integers(len(place))),
            )
            place = holder[key]
        holder[key] = [None, "x", -3, 1e300, [], {}, [[None]], True][random.integers(8)]
        path.write_text(json.dumps(spoiled))
        with suppress(BadFolder):
            assert folder.read(root, ["instances"]).images[0].labels.shape == (HEIGHT, WIDTH)


def test_coordinates_that_are_no_numbers_are_listed_with_their_region(tmp_path):
    label_studio(written(tmp_path, lambda root: None), studio_polygon)
    content = json.loads((tmp_path / "project.json").read_text())
    content[0]["annotations"][0]["result"][1]["value"]["points"] = [[1, 2], [3, 4]]
    write_json(tmp_path / "project.json", content)
    assert "region r1 (carbide) has 2 corners" in listed(tmp_path)


# --- hostile folders --------------------------------------------------------------------------------------------------


def test_a_zip_that_points_outside_is_refused(tmp_path):
    root = tmp_path / "folder"
    root.mkdir()
    with zipfile.ZipFile(root / "task.zip", "w") as archive:
        archive.writestr("annotations.xml", cvat_xml())
        archive.writestr(f"../../{NAME}", cv2.imencode(".png", image())[1].tobytes())
    assert "task.zip: its member '../../field_1.png' points outside" in listed(root)
    assert not list(tmp_path.rglob(NAME))


def test_masks_of_sixty_thousand_pixels_cost_no_memory(tmp_path):
    write_png(tmp_path / "images" / NAME, image())
    counts = {"size": [60000, 60000], "counts": [0, 60000 * 60000]}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": counts}
    coco = {
        "images": [{"id": 1, "file_name": NAME}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [annotation],
    }
    write_json(tmp_path / "coco.json", coco)
    assert "a mask of 60000 x 60000 px, and its image is 72 x 96" in listed(tmp_path)
    (tmp_path / "coco.json").unlink()
    write_png(tmp_path / "masks" / NAME, np.zeros((60000, 600), np.uint8))
    assert "60000 x 600 px, and its image is 72 x 96" in listed(tmp_path) or NAME in listed(tmp_path)


def test_a_class_value_of_four_billion_is_listed_with_its_file(tmp_path):
    import tifffile

    write_png(tmp_path / "images" / NAME, image())
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks" / "field_1.tif", np.full((HEIGHT, WIDTH), 4_000_000_000, np.uint32))
    assert "field_1.tif: labels are from 0 to 2147483647" in listed(tmp_path)
    with_classes(tmp_path, {0: "a", 4_000_000_000: "b"})
    assert "classes.yaml: 4000000000: values are from 0" in listed(tmp_path)


def test_a_category_of_four_billion_is_a_class_like_any_other(tmp_path):
    written(tmp_path, TOOLS["COCO polygons, categories from 0"])
    path = tmp_path / "annotations" / "instances.json"
    path.write_text(re.sub(r'("id"|"category_id"): 1\b', r"\1: 4000000000", path.read_text()))
    np.testing.assert_array_equal(folder.read(tmp_path, ["classes"]).images[0].labels, class_map())


def blobs(seed):
    """A picture with regions that show, and its mask."""
    random = np.random.default_rng(seed)
    field = cv2.GaussianBlur(random.normal(0, 1, (160, 160)).astype(np.float32), (0, 0), 6)
    labels = cv2.connectedComponents((field > 0.05).astype(np.uint8))[1]
    return (90 + 70 * (labels > 0) + random.normal(0, 8, labels.shape)).clip(0, 255).astype(np.uint8), labels


def test_a_mask_of_another_image_is_remarked(tmp_path):
    for seed in range(6):
        pixels, labels = blobs(seed)
        write_png(tmp_path / "images" / f"{seed}.png", pixels)
        write_png(tmp_path / "masks" / f"{seed}.png", (blobs(99)[1] if seed == 3 else labels).astype(np.uint16))
    (remark,) = folder.read(tmp_path).remarks
    assert remark.endswith("is it the mask of another image? 3.png")
    write_png(tmp_path / "masks" / "5.png", blobs(4)[1].astype(np.uint16))
    assert any("that of an earlier image too" in each and "5.png" in each for each in folder.read(tmp_path).remarks)


def test_twins_that_were_compressed_turned_or_resized_stay_on_one_side(tmp_path):
    for seed in range(12):
        pixels, labels = blobs(seed)
        write_png(tmp_path / "images" / f"{seed}.png", pixels)
        write_png(tmp_path / "masks" / f"{seed}.png", labels.astype(np.uint16))
    twins = {
        "jpeg": cv2.imdecode(cv2.imencode(".jpg", blobs(2)[0], [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 0),
        "turned": np.rot90(blobs(2)[0]),
        "small": cv2.resize(blobs(2)[0], (112, 112), interpolation=cv2.INTER_AREA),
        "dark": (blobs(2)[0] * 0.6).astype(np.uint8),
    }
    for name, pixels in twins.items():
        write_png(tmp_path / "images" / f"{name}.png", pixels)
        write_png(tmp_path / "masks" / f"{name}.png", np.ones(pixels.shape, np.uint8))
    read = folder.read(tmp_path)
    groups = {item.image.name: item.group for item in read.images}
    assert len({groups["2.png"], *(groups[f"{name}.png"] for name in twins)}) == 1
    assert len(set(groups.values())) == 12
    assert any("2.png, dark.png, jpeg.png, small.png, turned.png" in remark for remark in read.remarks)
    plan = training.plan(read, "grains", 1)
    assert len({name in plan.held_out for name in ("2.png", *(f"{name}.png" for name in twins))}) == 1


# --- what is not known ------------------------------------------------------------------------------------------------


def test_ignored_regions_and_what_lies_outside_the_annotated_part_are_not_known(tmp_path):
    qupath(written(tmp_path, lambda root: None))
    path = tmp_path / "annotations" / "field_1.geojson"
    content = json.loads(path.read_text())
    for name, box in (("Ignore", (60, 48, 96, 58)), ("Annotated", (0, 0, 96, 60))):
        x0, y0, x1, y1 = box
        ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
        feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}}
        content["features"].append(feature | {"properties": {"classification": {"name": name}}})
    write_json(path, content)
    expected = instances()
    expected[60:][expected[60:] == 0] = -1
    expected[48:58, 60:96] = -1
    np.testing.assert_array_equal(folder.read(tmp_path).images[0].labels, expected)


def test_nothing_is_known_where_qupath_ignores(tmp_path):
    qupath(written(tmp_path, lambda root: None))
    path = tmp_path / "annotations" / "field_1.geojson"
    path.write_text(path.read_text().replace("pore", "Ignore*"))
    read = folder.read(tmp_path, ["classes"])
    assert read.classes == ("background", "carbide")
    assert (read.images[0].labels == -1).any()


def test_masks_in_the_folder_ignore_say_where_nothing_is_known(tmp_path):
    written(tmp_path, lambda root: MASKS["index 8 bit"](root, instances()))
    unknown = np.zeros((HEIGHT, WIDTH), np.uint8)
    unknown[20:40] = 255
    write_png(tmp_path / "ignore" / "field_1.png", unknown)
    expected = np.where(unknown > 0, -1, instances())
    np.testing.assert_array_equal(folder.read(tmp_path).images[0].labels, expected)
    write_png(tmp_path / "ignore" / "field_2.png", unknown)
    assert "field_2.png: no image field_2.*" in listed(tmp_path)


def test_strokes_train_without_pretending_that_the_rest_is_background(tmp_path):
    strokes = np.zeros((HEIGHT, WIDTH), np.int32)
    strokes[10:13, 5:60], strokes[50:53, 5:60] = 1, 2
    written(tmp_path, lambda root: MASKS["index 8 bit"](root, strokes))
    with_classes(tmp_path, {0: "ignore", 1: "matrix", 2: "pore"})
    read = folder.read(tmp_path)
    plan = training.plan(read, "phases", 1).model_copy(update={"batch": 2, "crop_px": 64})
    task = tasks.find("phases").named(read.classes)
    batch = Sampler(plan, task, [read.images]).batch(0)
    weight = batch.weight[:, 0].numpy()
    assert set(np.unique(weight)) == {0.0, 1.0}
    assert 0 < weight.mean() < 0.3
    known = batch.target.numpy().transpose(1, 0, 2, 3)[:, weight > 0]
    assert (known.sum(axis=0) == 1).all()


def test_annotators_who_disagree_leave_nothing_known_there(tmp_path):
    write_png(tmp_path / "images" / NAME, image())
    one, two, three = (instances() for _ in range(3))
    two[two == 4] = 0  # two of three saw region 4
    three[three > 1] = 0  # one of three saw only the first
    three[0:3, 80:90] = 9  # and something that nobody else saw
    for person, labels in (("ada", one), ("grace", two), ("lise", three)):
        write_png(tmp_path / "masks" / person / NAME, labels.astype(np.uint8))
    found = folder.read(tmp_path).images[0].labels
    expected = np.where(instances() == 4, 0, instances())
    np.testing.assert_array_equal(found, expected)
    for path in (tmp_path / "masks").glob("lise/*"):
        path.unlink()
    found = folder.read(tmp_path).images[0].labels
    np.testing.assert_array_equal(found, np.where(instances() == 4, -1, instances()))


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_a_disc_has_the_area_of_a_disc():
    drawn = shapes.ellipse(40, 30, 20, 20)((HEIGHT, WIDTH))
    assert np.count_nonzero(drawn.inside) == pytest.approx(np.pi * 400, rel=0.01)


def test_an_outline_past_the_edges_is_cut_there():
    drawn = shapes.rectangle(-1e9, -50, 10, 1e9)((HEIGHT, WIDTH))
    filled = np.zeros((HEIGHT, WIDTH), bool)
    filled[drawn.window] = drawn.inside
    assert filled[:, :10].all()
    assert not filled[:, 10:].any()


def test_regions_that_share_an_outline_share_no_pixel_and_leave_none_between_them():
    random = np.random.default_rng(0)
    for _ in range(50):
        a, b, c, d = random.uniform(10, 60, (4, 2)).tolist()
        both = [shapes.polygons([[np.array(ring)]])((HEIGHT, WIDTH)) for ring in ([a, b, c], [a, b, d])]
        one, two = (np.zeros((HEIGHT, WIDTH), bool) for _ in range(2))
        for target, patch in zip((one, two), both, strict=True):
            target[patch.window] = patch.inside
        quad = shapes.polygons([[np.array([a, c, b]), np.array([a, b, d])]])((HEIGHT, WIDTH))
        whole = np.zeros((HEIGHT, WIDTH), bool)
        whole[quad.window] = quad.inside
        np.testing.assert_array_equal(whole, one ^ two)


def test_holes_stay_open_in_every_form_that_has_them(tmp_path):
    outer, hole = [[10, 10], [60, 10], [60, 50], [10, 50]], [[20, 20], [40, 20], [40, 40], [20, 40]]
    expected = np.zeros((HEIGHT, WIDTH), np.int32)
    expected[10:50, 10:60] = 1
    expected[20:40, 20:40] = 0
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[*outer, outer[0]], [*hole, hole[0]]]},
    }
    write_png(tmp_path / "images" / NAME, image())
    write_json(tmp_path / "field_1.geojson", {"type": "FeatureCollection", "features": [feature]})
    np.testing.assert_array_equal(folder.read(tmp_path).images[0].labels, expected)


def test_a_tool_can_name_whole_images(tmp_path):
    for number in range(4):
        write_png(tmp_path / "images" / f"{number}.png", blobs(number)[0])
    size = 'width="160" height="160"'
    rows = "".join(
        f'<image id="{n}" name="{n}.png" {size}><tag label="{"crack" if n % 2 else "clean"}"/></image>'
        for n in range(4)
    )
    (tmp_path / "annotations.xml").write_text(f"<annotations>{rows}</annotations>")
    read = folder.read(tmp_path, ["frames"])
    assert [item.class_name for item in read.images] == ["clean", "crack"] * 2
    assert read.classes == ("clean", "crack")
    write_png(tmp_path / "images" / "more.png", blobs(4)[0])
    assert "1 images are not annotated and do not train: more.png" in folder.read(tmp_path, ["frames"]).remarks
    (tmp_path / "annotations.xml").write_text(f"<annotations>{rows.replace('clean', 'crack')}</annotations>")
    assert "only one class, 'crack'" in listed(tmp_path, "frames")


def test_images_nobody_annotated_are_remarked_and_do_not_train(tmp_path):
    qupath(written(tmp_path, lambda root: None))
    write_png(tmp_path / "images" / "more.png", blobs(1)[0])
    read = folder.read(tmp_path)
    assert len(read.images) == 1
    assert any("more.png" in remark and "do not train" in remark for remark in read.remarks)


def test_images_of_one_name_in_two_folders_are_a_problem_and_not_two_annotators(tmp_path):
    TOOLS["COCO compressed"](tmp_path / "coco")
    for number, name in enumerate("ab"):
        write_png(tmp_path / "coco" / "images" / name / NAME, blobs(number)[0])
    assert f"a/{NAME}, b/{NAME}: images of one name" in listed(tmp_path / "coco")
    (tmp_path / "cvat").mkdir()
    with zipfile.ZipFile(tmp_path / "cvat" / "task.zip", "w") as archive:
        archive.writestr("annotations.xml", cvat_xml())
        for name in "ab":
            archive.writestr(f"{name}/{NAME}", cv2.imencode(".png", image())[1].tobytes())
    assert f"task.zip/b/{NAME}: another image in it has this name" in listed(tmp_path / "cvat")


def test_a_composite_region_of_imagej_keeps_its_hole(tmp_path):
    write_png(tmp_path / "images" / NAME, image())
    path = [0, 10, 10, 1, 60, 10, 1, 60, 50, 1, 10, 50, 4, 0, 20, 20, 1, 40, 20, 1, 40, 40, 1, 20, 40, 4]
    roi = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, top=10, left=10, bottom=50, right=60)
    roi.multi_coordinates = np.array(path, np.float32)
    roi.shape_roi_size = len(path)
    (tmp_path / "field_1.roi").write_bytes(roi.tobytes())
    found = folder.read(tmp_path).images[0].labels
    assert found[15, 15] == 1
    assert found[30, 30] == 0
    assert np.count_nonzero(found) == 50 * 40 - 20 * 20


def test_names_say_which_images_are_one_specimen(tmp_path):
    for seed, name in enumerate(("a_1", "a_2", "b_1")):
        write_png(tmp_path / "images" / f"{name}.png", blobs(seed)[0])
        write_png(tmp_path / "masks" / f"{name}.png", blobs(seed)[1].astype(np.uint16))
    groups = [item.group for item in folder.read(tmp_path, group_by="^([a-z])_").images]
    assert groups[0] == groups[1] != groups[2]
    with pytest.raises(BadFolder, match="finds no group in the name"):
        folder.read(tmp_path, group_by="^([A-Z])")


def test_label_studio_may_keep_labels_apart_from_shapes_and_quotes_the_names_of_files(tmp_path):
    def apart(root):
        label_studio(root, studio_polygon)
        tasks = json.loads((root / "project.json").read_text())
        results = tasks[0]["annotations"][0]["result"]
        for each in list(results):
            labels = each["value"].pop("polygonlabels")
            each["type"] = "polygon"
            results.append({**each, "type": "labels", "value": {**each["value"], "labels": labels}})
        results.append({"id": "k", "type": "vectorlabels", "value": {"vertices": [], "vectorlabels": ["pore"]}})
        tasks[0]["data"]["image"] = "/data/local-files/?d=plate%207/field_1.png"
        write_json(root / "project.json", tasks)

    assert NAME == "field_1.png"
    read = folder.read(with_classes(written(tmp_path, apart)))
    np.testing.assert_array_equal(read.images[0].labels, class_map())
    assert any("1 vectorlabels results: not taken as regions" in remark for remark in read.remarks)
    (tmp_path / "images" / NAME).rename(tmp_path / "images" / "field 1.png")
    (tmp_path / "project.json").write_text((tmp_path / "project.json").read_text().replace("field_1", "field%201"))
    assert [item.image.name for item in folder.read(tmp_path).images] == ["field 1.png"]


def test_a_brush_and_a_polygon_of_label_studio_are_the_same_region():
    for index in range(4):
        assert studio_brush(index)["value"]["brushlabels"] == studio_polygon(index)["value"]["polygonlabels"]
        assert mask(index).any()


# --- boxes, ellipses and parts, as tools write them -------------------------------------------------------------------

BOX, BOX_DEGREES = (12.2, 20.7, 44.2, 36.7), 30.0  # left, top, right, bottom; turned clockwise on the screen
OVAL, OVAL_DEGREES = (64.3, 40.4, 22.0, 9.0), 25.0  # middle, radii


def from_middle(x, y, degrees):
    """How far the middle of each pixel lies from a place, along axes that were turned clockwise on the screen."""
    rows, columns = np.indices((HEIGHT, WIDTH)) + 0.5
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return (columns - x) * cosine + (rows - y) * sine, (rows - y) * cosine - (columns - x) * sine


def in_box(degrees=0.0, about_middle=True):
    x0, y0, x1, y1 = BOX
    pin = ((x0 + x1) / 2, (y0 + y1) / 2) if about_middle else (x0, y0)
    along, across = from_middle(*pin, degrees)
    along, across = along + pin[0], across + pin[1]
    return (x0 < along) & (along < x1) & (y0 < across) & (across < y1)


def in_oval(radius_x=OVAL[2], radius_y=OVAL[3], degrees=0.0):
    along, across = from_middle(*OVAL[:2], degrees)
    return np.hypot(along / radius_x, across / radius_y) < 1


def said(root, name, content):
    """Class and pixels of each region, and the document, of one file in a folder."""
    if isinstance(content, bytes):
        (root / name).write_bytes(content)
    else:
        (root / name).write_text(content if isinstance(content, str) else json.dumps(content))
    [document] = annotations.find(root)
    regions = []
    for region in document.sheets[0].regions if document.sheets else ():
        pixels, patch = np.zeros((HEIGHT, WIDTH), bool), region.draw((HEIGHT, WIDTH))
        pixels[patch.window] = patch.inside
        regions.append((region.class_name, pixels))
    return regions, document


def cvat_of(*shapes):
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    return f'<annotations><image name="{NAME}" {size}>{"".join(shapes)}</image></annotations>'


def shapes_of_cvat(root):
    (x0, y0, x1, y1), (cx, cy, rx, ry) = BOX, OVAL
    box = f'<box label="a" xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}" rotation="{BOX_DEGREES}"/>'
    oval = f'<ellipse label="b" cx="{cx}" cy="{cy}" rx="{rx}" ry="{ry}" rotation="{OVAL_DEGREES}"/>'
    found, document = said(root, "annotations.xml", cvat_of(box, '<polyline label="c" points="1,1;9,9"/>', oval))
    assert document.left_out == {"polyline shapes": 1}
    return found, [in_box(BOX_DEGREES), in_oval(degrees=OVAL_DEGREES)]


def shapes_of_label_studio(root):
    (x0, y0, x1, y1), (cx, cy, rx, ry) = BOX, OVAL
    across, down = 100 / WIDTH, 100 / HEIGHT
    box = {"x": x0 * across, "y": y0 * down, "width": (x1 - x0) * across, "height": (y1 - y0) * down}
    oval = {"x": cx * across, "y": cy * down, "radiusX": rx * across, "radiusY": ry * down}
    results = [
        {"type": "rectanglelabels", "value": {**box, "rotation": BOX_DEGREES, "rectanglelabels": ["a"]}},
        {"type": "ellipselabels", "value": {**oval, "rotation": OVAL_DEGREES, "ellipselabels": ["b"]}},
    ]
    results = [{**each, "original_width": WIDTH, "original_height": HEIGHT} for each in results]
    cancelled = {"result": results, "was_cancelled": True}
    task = {"data": {"image": NAME}, "annotations": [cancelled, {"result": results}]}
    found, document = said(root, "project.json", [task])
    assert (len(document.sheets), document.left_out) == (1, {"annotations that were cancelled": 1})
    return found, [in_box(BOX_DEGREES, about_middle=False), in_oval(degrees=OVAL_DEGREES)]


def shapes_of_via_2(root):
    (x0, y0, x1, y1), (cx, cy, rx, ry) = BOX, OVAL
    outlines = [
        {"name": "rect", "x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0},
        {"name": "ellipse", "cx": cx, "cy": cy, "rx": rx, "ry": ry, "theta": np.deg2rad(OVAL_DEGREES)},
        {"name": "circle", "cx": cx, "cy": cy, "r": ry},
        {"name": "polyline", "all_points_x": [1, 9], "all_points_y": [1, 9]},
        {"name": "circle", "cx": 9, "cy": 9, "r": 5},
    ]
    two = {"size": "large", "colour": "red"}
    said_of = [{"size": "large", "Label": "a"}, {"kind": {"b": True, "x": False}}, {"kind": "c"}, {"kind": "d"}, two]
    regions = [
        {"shape_attributes": outline, "region_attributes": words}
        for outline, words in zip(outlines, said_of, strict=True)
    ]
    found, document = said(root, "via.json", {"1": {"filename": NAME, "regions": regions}})
    assert document.left_out == {"polylines": 1}
    assert found.pop()[0] is None, "of two attributes none is called a class"
    return found, [in_box(), in_oval(degrees=OVAL_DEGREES), in_oval(OVAL[3], OVAL[3])]


def shapes_of_via_3(root):
    (x0, y0, x1, y1), (cx, cy, rx, ry) = BOX, OVAL
    box, oval, circle = (x0, y0, x1 - x0, y1 - y0), (cx, cy, rx, ry), (cx, cy, ry)
    metadata = {
        str(number): {"vid": "1", "xy": xy, "av": {"1": "large", "2": name}}
        for number, (name, xy) in enumerate(
            (("a", (2, *box)), ("b", (4, *oval)), ("c", (3, *circle)), ("d", (8, *box)), ("e", (9, *circle)))
        )
    }
    attributes = {"1": {"aname": "size"}, "2": {"aname": "class"}}
    project = {"file": {"1": {"fid": "1", "fname": NAME}}, "view": {"1": {"fid_list": ["1"]}}, "metadata": metadata}
    found, _ = said(root, "via.json", project | {"attribute": attributes})
    disc = in_oval(ry, ry)
    return found, [in_box(), in_oval(), disc, in_box(), disc]


def shapes_of_labelme(root):
    (x0, y0, x1, y1), (cx, cy, _, radius) = BOX, OVAL
    shapes_said = [
        {"label": "a", "shape_type": "rectangle", "points": [[x1, y0], [x0, y1]]},
        {"label": "b", "shape_type": "circle", "points": [[cx, cy], [cx + 0.6 * radius, cy - 0.8 * radius]]},
        {"label": "c", "shape_type": "line", "points": [[1, 1], [9, 9]]},
    ]
    size = {"imageHeight": HEIGHT, "imageWidth": WIDTH}
    found, document = said(root, "field_1.json", {"shapes": shapes_said, "flags": {"x": False, "good": True}, **size})
    [sheet] = document.sheets
    assert (sheet.image, sheet.stem_only, sheet.class_name) == ("field_1", True, "good")
    assert (sheet.shape_px, document.left_out) == ((HEIGHT, WIDTH), {"lines": 1})
    return found, [in_box(), in_oval(radius, radius)]


def shapes_of_imagej(root):
    box = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, top=20, left=12, bottom=37, right=44, name="a-12")
    oval = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.OVAL, top=31, left=42, bottom=50, right=87, name="0012-0034")
    line = roifile.ImagejRoi.frompoints(np.array([[1, 1], [9, 9]]), name="c")
    line.roitype = roifile.ROI_TYPE.POLYLINE
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number, roi in enumerate((box, oval, line)):
            archive.writestr(f"{number}.roi", roi.tobytes())
    found, document = said(root, "field_1_RoiSet.zip", packed.getvalue())
    assert (document.sheets[0].image, document.left_out) == ("field_1", {"polyline regions": 1})
    assert found[1][0] is None, "a number that ImageJ gives by itself names no class"
    rows, columns = np.indices((HEIGHT, WIDTH))
    whole = (rows >= 20) & (rows < 37) & (columns >= 12) & (columns < 44)
    round_one = np.hypot((columns + 0.5 - 64.5) / 22.5, (rows + 0.5 - 40.5) / 9.5) < 1
    return [(found[0][0], found[0][1]), ("b", found[1][1])], [whole, round_one]


@pytest.mark.parametrize(
    "shapes_of",
    [shapes_of_cvat, shapes_of_label_studio, shapes_of_via_2, shapes_of_via_3, shapes_of_labelme, shapes_of_imagej],
)
def test_boxes_and_ellipses_are_the_pixels_whose_middles_they_enclose(tmp_path, shapes_of):
    found, expected = shapes_of(tmp_path)
    assert [name for name, _ in found] == list("abcde")[: len(expected)]
    for (_, pixels), inside in zip(found, expected, strict=True):
        np.testing.assert_array_equal(pixels, inside)


def test_what_was_drawn_in_parts_is_one_region_and_what_lies_above_comes_later(tmp_path):
    outlines = [[[5, 5], [25, 5], [25, 25], [5, 25]], [[20, 10], [50, 10], [50, 20], [20, 20]]]
    hole = [[8, 8], [12, 8], [12, 12], [8, 12]]
    both = np.zeros((HEIGHT, WIDTH), bool)
    both[5:25, 5:25] = both[10:20, 20:50] = True
    holed = both.copy()
    holed[8:12, 8:12] = False
    file = {
        "images": [{"id": 1, "file_name": NAME, "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 3, "name": "pore"}],
    }
    flat = [[value for corner in outline for value in corner] for outline in outlines]
    one = {"image_id": 1, "category_id": 3, "segmentation": flat}
    (tmp_path / "coco").mkdir()
    wrong = [{**one, "id": 7, "image_id": 2}, {**one, "id": 8, "category_id": 1}]
    found, document = said(tmp_path / "coco", "a.json", {**file, "annotations": [one, {**one, "iscrowd": 1}, *wrong]})
    assert [name for name, _ in found] == ["pore", "ignore"]
    np.testing.assert_array_equal(found[0][1], both)
    assert document.left_out == {"crowds, inside which nothing is known": 1}
    assert [problem[8:] for problem in document.problems] == [
        "annotation 7 belongs to image id 2, which is not listed.",
        "annotation 8 has category id 1; there are: 3.",
    ]
    (tmp_path / "qupath").mkdir()
    parts = [[outlines[0], hole], [outlines[1]]]
    feature = {"type": "Feature", "geometry": {"type": "MultiPolygon", "coordinates": parts}}
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}}
    content = {"type": "FeatureCollection", "features": [feature, point]}
    [(_, pixels)], document = said(tmp_path / "qupath", "field_1.geojson", content)
    assert document.left_out == {"Point objects": 1}
    np.testing.assert_array_equal(pixels, holed)
    (tmp_path / "labelme").mkdir()
    grouped = [{"label": "pore", "group_id": 4, "points": outline} for outline in outlines]
    other = {"label": "crack", "group_id": 4, "points": outlines[0]}
    found, _ = said(tmp_path / "labelme", "field_1.json", {"shapes": [grouped[0], other, grouped[1]]})
    assert [name for name, _ in found] == ["pore", "crack"]
    np.testing.assert_array_equal(found[0][1], both)
    (tmp_path / "cvat").mkdir()
    drawn = [f'<box label="{z}" xtl="0" ytl="0" xbr="9" ybr="9" z_order="{z}"/>' for z in (2, 0, -1)]
    found, _ = said(tmp_path / "cvat", "annotations.xml", cvat_of(*drawn))
    assert [name for name, _ in found] == ["-1", "0", "2"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.xml", cvat_of('<tag label="crack"/>', '<tag label="clean"/>'), f"{NAME} has 2 tags; one class is expected"),
        ("a.xml", '<annotations><track id="0"/></annotations>', "an export of a video"),
        ("a.json", {"shapes": [], "flags": {"crack": True, "clean": True}}, "2 flags are raised"),
        (
            "a.json",
            {"images": [{"id": 1, "file_name": n} for n in "ab"], "annotations": [], "categories": []},
            "two images have the same id",
        ),
        (
            "a.json",
            {"images": [], "annotations": [], "categories": [{"id": 1, "name": n} for n in "ab"]},
            "two categories have the same id",
        ),
        (
            "a.json",
            [
                {
                    "id": 3,
                    "data": {"image": NAME},
                    "annotations": [{"result": [{"type": "choices", "value": {"choices": ["crack", "clean"]}}]}],
                }
            ],
            "task 3 states several classes of the image",
        ),
        (
            "a.json",
            [
                {
                    "id": 3,
                    "data": {"image": NAME},
                    "annotations": [
                        {
                            "result": [
                                {"type": "choices", "original_width": px, "original_height": px, "value": {}}
                                for px in (8, 9)
                            ]
                        }
                    ],
                }
            ],
            "task 3 states several sizes of the image",
        ),
    ],
)
def test_a_file_that_says_two_things_of_one_image_is_a_problem(tmp_path, name, content, problem):
    _, document = said(tmp_path, name, content)
    assert [problem in each for each in document.problems] == [True]
