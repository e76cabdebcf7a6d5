import re

import cv2
import numpy as np
import pytest

from micro import folder
from micro.errors import BadFolder, BadSetting


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def noise(seed, shape=(32, 32)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_images_are_paired_with_masks_of_their_stem(tmp_path):
    labels = np.zeros((32, 32), np.uint16)
    labels[4:9, 4:9] = 300
    for seed, name in enumerate("ab"):
        write(tmp_path / "images" / f"{name}.png", noise(seed))
        write(tmp_path / "masks" / f"{name}.png", labels)
    read = folder.read(tmp_path)
    assert [item.image.name for item in read.images] == ["a.png", "b.png"]
    np.testing.assert_array_equal(read.images[0].labels, labels > 0)
    assert read.classes == ()
    assert "2 annotated images" in read.describe()


def test_all_problems_are_listed_at_once(tmp_path):
    write(tmp_path / "images" / "lonely.png", noise(0))
    write(tmp_path / "images" / "small.png", noise(1))
    write(tmp_path / "images" / "broken.png", noise(2))
    write(tmp_path / "masks" / "orphan.png", noise(3))
    write(tmp_path / "masks" / "small.png", noise(4, (16, 16)))
    write(tmp_path / "masks" / "broken.png", noise(5))
    (tmp_path / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(BadFolder) as fault:
        folder.read(tmp_path)
    message = str(fault.value)
    assert "problems found: 4" in message
    for name in ("lonely.png: no mask", "orphan.png: no image", "16 x 16 px", "broken.png"):
        assert name in message


def test_twins_lie_beside_the_masks_and_may_be_missing(tmp_path):
    twins = np.zeros((32, 32), np.uint8)
    twins[4:9] = 255
    for seed, name in enumerate("ab"):
        write(tmp_path / "images" / f"{name}.png", noise(seed))
        write(tmp_path / "masks" / f"{name}.png", noise(seed))
    write(tmp_path / "twins" / "a.png", twins)
    first, second = folder.read(tmp_path).images
    np.testing.assert_array_equal(first.twins, twins > 0)
    assert second.twins is None
    write(tmp_path / "twins" / "b.png", twins[:16])
    write(tmp_path / "twins" / "c.png", twins)
    with pytest.raises(BadFolder) as fault:
        folder.read(tmp_path)
    assert "problems found: 2" in str(fault.value)
    assert "16 x 32 px" in str(fault.value)


def test_folders_are_classes(tmp_path):
    for seed in range(4):
        write(tmp_path / ("crack" if seed % 2 else "clean") / f"{seed}.png", noise(seed))
    read = folder.read(tmp_path)
    assert read.classes == ("clean", "crack")
    assert [item.class_name for item in read.images] == ["clean", "clean", "crack", "crack"]


def test_copies_of_an_image_share_a_group_and_are_remarked(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(tmp_path / "crack" / f"{name}.png", noise(seed))
    write(tmp_path / "clean" / "d.png", noise(3))
    read = folder.read(tmp_path)
    groups = {item.image.name: item.group for item in read.images}
    assert groups["crack/a.png"] == groups["crack/b.png"] != groups["crack/c.png"]
    assert any("crack/a.png, crack/b.png" in remark for remark in read.remarks)


def masked(root, names):
    for seed, name in enumerate(names):
        write(root / "images" / f"{name}.png", noise(seed))
        write(root / "masks" / f"{name}.png", np.ones((32, 32), np.uint8))


def test_a_table_names_groups_that_stay_together(tmp_path):
    masked(tmp_path, "abc")
    # as Excel saves it
    table = "image,group\r\na.png,chip 1\r\nb.png,chip 2\r\nc.png,chip 1\r\n"
    (tmp_path / "groups.csv").write_text(table, encoding="utf-8-sig")
    assert [item.group for item in folder.read(tmp_path).images] == ["chip 1", "chip 2", "chip 1"]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("image,group\na.png,1\n", "no group for the image 'b.png'"),
        ("image,group\na.png,1\nb.png,1\nz.png,1\n", "no image 'z.png'"),
        ("image,group\na.png,1\nb.png\n", "no group for the image 'b.png'"),
        ("image,group\na.png,1\nb.png,\n", "no group for the image 'b.png'"),
        ("image,group\na.png,1\nb.png,1\na.png,2\n", "'a.png' is in several groups"),
        ("image,group\na.png,Stück\n".encode("latin-1"), "not a CSV table in UTF-8"),
        ("name;chip\na.png;1\n", "columns image,group"),
        ("", "columns image,group"),
    ],
)
def test_a_table_of_groups_that_does_not_fit_is_a_problem(tmp_path, table, problem):
    masked(tmp_path, "ab")
    (tmp_path / "groups.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(BadFolder, match=problem):
        folder.read(tmp_path)


def classed(root, table="0: matrix\n7: pore\n255:\n"):
    mask = np.zeros((32, 32), np.uint8)
    mask[4:9], mask[20:] = 7, 255
    for seed, name in enumerate("ab"):
        write(root / "images" / f"{name}.png", noise(seed))
        write(root / "masks" / f"{name}.png", mask)
    (root / "classes.yaml").write_text(table)
    return mask


@pytest.mark.parametrize("table", ["0: matrix\n7: pore\n255:\n", "0: matrix\n7: pore\n255: Ignore\n"])
def test_a_table_of_classes_turns_the_values_of_masks_into_their_numbers(tmp_path, table):
    mask = classed(tmp_path, table)
    read = folder.read(tmp_path)
    assert (read.annotation, read.classes) == ("classes", ("matrix", "pore"))
    np.testing.assert_array_equal(read.images[0].labels, np.select([mask == 7, mask == 255], [1, -1], 0))
    assert "matrix, pore 2" in read.describe()


def test_a_class_that_no_pixel_shows_is_told_before_training(tmp_path):
    classed(tmp_path, "0: matrix\n7: pore\n9: crack\n255:\n")
    said = "matrix 46.9%, pore 15.6%, crack no pixel, so that nothing learns it; unknown 37.5%"
    assert said in folder.read(tmp_path).describe()


def test_masks_that_may_say_less_than_was_meant_are_remarked(tmp_path):
    mask = np.zeros((32, 32), np.uint8)
    for seed, name in enumerate("ab"):
        write(tmp_path / "images" / f"{name}.png", noise(seed))
        write(tmp_path / "masks" / f"{name}.png", mask)
        mask[4:9, 4:9] = mask[20:30, 20:30] = 255
    said = folder.read(tmp_path).describe()
    assert "1 images are annotated as empty, all background, and train so: a.png" in said
    assert "no mask numbers more than one region, and these lie in 2 pieces" in said
    mask[4:9, 4:9] = 1
    write(tmp_path / "masks" / "a.png", mask)
    assert not {"empty,", "pieces:"} & set(folder.read(tmp_path).describe().split())


def test_without_a_table_of_classes_masks_number_instances(tmp_path):
    masked(tmp_path, "ab")
    read = folder.read(tmp_path)
    assert (read.annotation, read.classes) == ("instances", ())


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("0: matrix\n7: pore\n", "masks/a.png: values that classes.yaml does not name: 255"),
        ("matrix: 0\n", "value: name"),
        ("- matrix\n- pore\n", "value: name"),
        ("0: matrix\n1: [\n", "not YAML"),
        ("0: pore\n7: pore\n", "a name of its own"),
        ("0: matrix\n7: pore\n7: crack\n255:\n", "stands twice"),
        ("0: matrix\n7: pore\n'#000007': crack\n255:\n", "two names"),
        ("0: matrix\n255:\n7:\n", "two classes or more"),
    ],
)
def test_a_table_of_classes_that_does_not_fit_is_a_problem(tmp_path, table, problem):
    classed(tmp_path, table)
    with pytest.raises(BadFolder, match=re.escape(problem)):
        folder.read(tmp_path)


def test_masks_may_carry_what_they_are_in_their_names(tmp_path):
    for seed, (image, mask) in enumerate([("a", "a_label"), ("b", "b_mask"), ("c", "c"), ("d_mask", "d_mask")]):
        write(tmp_path / "images" / f"{image}.png", noise(seed))
        write(tmp_path / "masks" / f"{mask}.png", np.arange(32 * 32).reshape(32, 32).astype(np.uint16) % (seed + 2))
    read = folder.read(tmp_path)
    assert [(item.image.name, item.labels.max()) for item in read.images] == [
        ("a.png", 1),
        ("b.png", 2),
        ("c.png", 3),
        ("d_mask.png", 4),
    ]


def test_two_masks_for_one_image_are_a_problem(tmp_path):
    masked(tmp_path, "a")
    write(tmp_path / "masks" / "a_mask.png", np.ones((32, 32), np.uint8))
    with pytest.raises(BadFolder, match="same stem"):
        folder.read(tmp_path)


def test_equal_pixels_in_two_classes_are_a_problem(tmp_path):
    write(tmp_path / "crack" / "a.png", noise(1))
    write(tmp_path / "clean" / "b.png", noise(1))
    with pytest.raises(BadFolder, match="equal pixels, different annotations"):
        folder.read(tmp_path)


def test_where_the_file_type_tells_the_class_all_images_are_encoded_alike(tmp_path):
    for seed in range(3):
        write(tmp_path / "crack" / f"{seed}.jpg", noise(seed))
        write(tmp_path / "clean" / f"{seed}.png", noise(seed + 10))
    read = folder.read(tmp_path)
    assert any("re-encoded alike" in remark for remark in read.remarks)
    kept = {item.image.name: item.image.pixels[..., 0] for item in read.images}
    assert not np.array_equal(kept["clean/0.png"], noise(10)), "a lossless file keeps no privilege"


def test_where_every_class_has_lossless_files_nothing_is_changed(tmp_path):
    for seed in range(2):
        write(tmp_path / "crack" / f"{seed}.png", noise(seed))
        write(tmp_path / "clean" / f"{seed}.png", noise(seed + 10))
    read = folder.read(tmp_path)
    assert np.array_equal(read.images[0].image.pixels[..., 0], noise(10))


@pytest.mark.parametrize("prepare", [lambda root: None, lambda root: (root / "notes.txt").write_text("x")])
def test_a_folder_without_annotations_says_what_it_should_hold(tmp_path, prepare):
    prepare(tmp_path)
    with pytest.raises(BadFolder, match="nothing annotated"):
        folder.read(tmp_path)


def test_one_class_alone_cannot_be_learned(tmp_path):
    write(tmp_path / "crack" / "a.png", noise(1))
    with pytest.raises(BadFolder, match="only one class"):
        folder.read(tmp_path)


def test_images_that_lie_in_no_folder_of_a_class_are_named(tmp_path):
    for number, place in enumerate(("crack/a.png", "clean/b.png", "loose.png", "crack/more/c.png")):
        write(tmp_path / place, noise(number))
    read = folder.read(tmp_path)
    assert [item.image.name for item in read.images] == ["clean/b.png", "crack/a.png"]
    assert any(remark.endswith("left out: crack/more/c.png, loose.png") for remark in read.remarks)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(BadFolder, match="no such folder"):
        folder.read(tmp_path / "none")


def test_near_copies_stay_together_unless_all_images_look_alike(tmp_path):
    places = [noise(seed, (64, 64)) // 2 for seed in range(3)]
    scene = cv2.GaussianBlur(noise(9, (64, 64)), (0, 0), 2)
    scene = cv2.normalize(scene, None, 20, 200, cv2.NORM_MINMAX)
    for number, pixels in enumerate(places):
        pixels = cv2.normalize(cv2.GaussianBlur(pixels, (0, 0), 2), None, 20, 200, cv2.NORM_MINMAX)
        write(tmp_path / "few" / f"c{number % 2}" / f"{number}.png", pixels)
        write(tmp_path / "few" / f"c{number % 2}" / f"{number}-turned.png", np.rot90(pixels) + 3)
    few = folder.read(tmp_path / "few")
    assert len({item.group for item in few.images}) == 3
    assert "nearly the same image more than once" in few.describe()
    for number in range(24):
        write(tmp_path / "fixed" / f"c{number % 2}" / f"{number}.png", scene + number)
    fixed = folder.read(tmp_path / "fixed")
    assert len({item.group for item in fixed.images}) == 24
    assert "each image looks nearly like 23 others" in fixed.describe()


def test_images_that_show_nothing_but_the_same_light_or_edge_are_no_copies_of_each_other(tmp_path):
    rows, columns = np.mgrid[-1:1:128j, -1:1:128j]
    lamp = 150 - 40 * (rows**2 + columns**2)
    strip = np.where(columns < -0.4, 12, 140)
    for number in range(6):
        grain = np.random.default_rng(number).normal(0, 3, lamp.shape)
        write(tmp_path / f"c{number % 2}" / f"plain{number}.png", (lamp + grain).clip(0, 255).astype(np.uint8))
        write(tmp_path / f"c{number % 2}" / f"strip{number}.png", (strip + grain).clip(0, 255).astype(np.uint8))
    read = folder.read(tmp_path)
    assert len({item.group for item in read.images}) == 12
    assert "nearly the same image" not in read.describe()


@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 0),
        lambda pixels: cv2.convertScaleAbs(pixels, None, 1.2, 8),
        lambda pixels: np.roll(pixels, 2, 0),
        lambda pixels: pixels[2:-1, 1:-2],
        lambda pixels: cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_AREA),
    ],
)
def test_copies_of_images_with_something_in_them_are_joined(tmp_path, change):
    columns = np.arange(128)
    for number in range(2):
        marks = cv2.GaussianBlur(noise(number, (128, 128)), (0, 0), 4)
        pixels = np.where(columns < 30, 12, cv2.normalize(marks, None, 60, 180, cv2.NORM_MINMAX)).astype(np.uint8)
        write(tmp_path / f"c{number}" / f"{number}.png", pixels)
        write(tmp_path / f"c{number}" / f"{number}-copy.png", change(pixels))
    assert len({item.group for item in folder.read(tmp_path).images}) == 2


def smooth(seed):
    marks = cv2.GaussianBlur(noise(seed, (64, 64)), (0, 0), 2)
    return cv2.normalize(marks, None, 20, 200, cv2.NORM_MINMAX)


def test_near_copies_that_somebody_put_into_two_groups_stay_there_and_are_named(tmp_path):
    for number, name in enumerate(("a", "b", "c")):
        write(tmp_path / "images" / f"{name}.png", smooth(min(number, 1)) + number)
        write(tmp_path / "masks" / f"{name}.png", np.eye(64, dtype=np.uint8))
    assert len({item.group for item in folder.read(tmp_path).images}) == 2
    (tmp_path / "groups.csv").write_text("image,group\na.png,1\nb.png,2\nc.png,3\n")
    stated = folder.read(tmp_path)
    assert [item.group for item in stated.images] == ["1", "2", "3"]
    assert "nearly the same image in two groups, so perhaps on both sides of a split: b.png, c.png" in stated.describe()
    assert "more than once" not in stated.describe()


def test_only_what_stands_in_the_brackets_is_the_specimen(tmp_path):
    for seed, name in enumerate(("field-1_chip-A", "field-2_chip-A", "field-3_chip-B")):
        write(tmp_path / "images" / f"{name}.png", noise(seed))
        write(tmp_path / "masks" / f"{name}.png", np.eye(32, dtype=np.uint8))
    groups = [item.group for item in folder.read(tmp_path, group_by=r"\d_chip-([A-Z])").images]
    assert groups == ["A", "A", "B"]
    with pytest.raises(BadSetting, match="one group in brackets is expected"):
        folder.read(tmp_path, group_by=r"field-(\d)_chip-([A-Z])")


def test_equal_pixels_under_two_masks_are_a_problem_and_under_one_are_not(tmp_path):
    for name, rows in (("a", 4), ("b", 4), ("c", 9)):
        mask = np.zeros((32, 32), np.uint8)
        mask[:rows] = 1
        write(tmp_path / "images" / f"{name}.png", noise(1))
        write(tmp_path / "masks" / f"{name}.png", mask)
    with pytest.raises(BadFolder) as told:
        folder.read(tmp_path)
    assert re.findall(r"(\w)\.png and (\w)\.png: equal pixels", str(told.value)) == [("a", "c")]


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "webp"])
@pytest.mark.parametrize(("lossless", "is_told"), [(0, True), (1, False)])
def test_file_types_tell_the_class_where_their_shares_differ_by_more_than_a_tenth(tmp_path, suffix, lossless, is_told):
    for seed in range(10):
        colour = np.stack([noise(seed), noise(seed) // 2, noise(seed) // 4], axis=2)
        write(tmp_path / "clean" / f"{seed}.{'png' if seed < 2 else suffix}", colour)
        write(tmp_path / "crack" / f"{seed}.{'png' if seed < lossless else suffix}", 255 - colour)
    read = folder.read(tmp_path)
    assert any("re-encoded alike" in remark for remark in read.remarks) == is_told
    first = next(item.image.pixels for item in read.images if item.image.name == "clean/0.png")
    red, _, blue = first.reshape(-1, 3).mean(axis=0)
    assert blue > 3 * red
