import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
import sqlalchemy as sa
from postgres import server  # noqa: F401 -- a fixture

from micro import cli, folder, formats, training
from micro.errors import BadFolder, BadSetting, RunRefused
from micro.line import schema
from micro.line.corrections import annotated_by, correct, refuse_loss, said_of

SCORES = {"clean": 0.9, "crack": 0.1}


def draw(path: Path, seed: int, size_px: int = 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size_px, size_px), dtype=np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


def judged(run: Path, images: list[Path], store: str | None = None, **facts: object) -> None:
    """Write a ledger as a run leaves it: one row an image, here those of a classifier."""
    run.mkdir(exist_ok=True)
    rows = [
        {
            "name": path.name,
            "address": str(path),
            "state": "done",
            "attempt": 1,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "height_px": 32,
            "width_px": 32,
            "class": "clean",
            "score": 0.9,
            "class_scores": SCORES,
            "verdict": "OK",
            "model": "toy",
            **facts,
        }
        for path in images
    ]
    engine = schema.connect(store or run, writes=True)
    with engine.begin() as connection:
        schema.create(connection)
        connection.execute(schema.images.insert(), rows)
    engine.dispose()


def ledger_rows(run: Path) -> list[tuple[object, ...]]:
    engine = schema.connect(run)
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(sa.select(schema.images))]
    engine.dispose()
    return rows


@pytest.fixture
def run(tmp_path: Path) -> Path:
    judged(tmp_path / "run", [draw(tmp_path / "in" / f"{number}.png", number) for number in range(3)])
    return tmp_path / "run"


def test_a_correction_lies_beside_the_prediction_with_author_and_time(run: Path, tmp_path: Path) -> None:
    before = ledger_rows(run)
    said = correct(run, tmp_path / "in" / "1.png", " Ann ", class_name="crack")
    assert said_of(run) == [said]
    assert (said.image, said.class_name, said.labels, said.author) == ("1.png", "crack", None, "Ann")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(said.time)) < timedelta(minutes=1)
    assert ledger_rows(run) == before


def test_all_words_on_an_image_are_kept_and_the_last_one_trains(run: Path, tmp_path: Path) -> None:
    for author, name in (("Ann", "crack"), ("Bo", "clean"), ("Ann", "crack")):
        correct(run, tmp_path / "in" / "1.png", author, class_name=name)
    correct(run, tmp_path / "in" / "2.png", "Bo", class_name="clean")
    assert [(said.author, said.class_name) for said in said_of(run)][:3] == [
        ("Ann", "crack"),
        ("Bo", "clean"),
        ("Ann", "crack"),
    ]
    assert [(item.class_name, item.labels) for item in annotated_by(run)] == [("crack", None), ("clean", None)]


def test_the_image_is_found_by_its_content_and_kept_when_the_camera_deletes_it(run: Path, tmp_path: Path) -> None:
    original = formats.read(tmp_path / "in" / "2.png")
    moved = (tmp_path / "in" / "2.png").rename(tmp_path / "moved.png")
    assert correct(run, moved, "Ann", class_name="crack").image == "2.png"
    moved.unlink()
    (item,) = annotated_by(run)
    assert np.array_equal(item.image.pixels, original.pixels)


def test_of_images_with_equal_bytes_the_one_of_that_name_is_corrected(run: Path, tmp_path: Path) -> None:
    twin = tmp_path / "in" / "twin.png"
    twin.write_bytes((tmp_path / "in" / "0.png").read_bytes())
    judged(run, [twin])
    assert correct(run, twin, "Ann", class_name="crack").image == "twin.png"
    assert correct(run, tmp_path / "in" / "0.png", "Ann", class_name="crack").image == "0.png"


def test_a_mask_is_kept_with_the_pixel_size_of_the_image(tmp_path: Path) -> None:
    image = draw(tmp_path / "in" / "a.png", 1)
    judged(tmp_path / "run", [image], class_scores=None, n_regions=1, pixel_size_um=0.5)
    labels = np.zeros((32, 32), np.int32)
    labels[:8], labels[20:] = 1, 2
    formats.write_labels(tmp_path / "right.tif", labels)
    said = correct(tmp_path / "run", image, "Ann", labels=tmp_path / "right.tif")
    assert said.labels is not None
    assert np.array_equal(formats.read_labels(tmp_path / "run" / said.labels), labels)
    assert formats.read(tmp_path / "run" / said.labels).pixel_size_um == 0.5
    (item,) = annotated_by(tmp_path / "run")
    assert item.labels is not None
    assert np.array_equal(item.labels, labels)


def test_what_the_bundle_cannot_learn_is_refused_with_what_it_can(run: Path, tmp_path: Path) -> None:
    image = tmp_path / "in" / "1.png"
    formats.write_labels(tmp_path / "small.tif", np.ones((8, 8), np.int32))
    with pytest.raises(BadSetting, match="knows clean, crack"):
        correct(run, image, "Ann", class_name="crak")
    with pytest.raises(BadSetting, match="one of --class and --labels"):
        correct(run, image, "Ann")
    with pytest.raises(BadSetting, match="author"):
        correct(run, image, " ", class_name="crack")
    with pytest.raises(BadSetting, match="finds no regions"):
        correct(run, image, "Ann", labels=tmp_path / "small.tif")
    segmented = tmp_path / "segmented"
    judged(segmented, [image], class_scores=None, n_regions=0)
    with pytest.raises(BadSetting, match="8 x 8 px, and 1"):
        correct(segmented, image, "Ann", labels=tmp_path / "small.tif")
    with pytest.raises(BadSetting, match="names no classes"):
        correct(segmented, image, "Ann", class_name="crack")
    assert said_of(run) == said_of(segmented) == []


def test_what_was_not_judged_is_not_corrected(run: Path, tmp_path: Path) -> None:
    stranger = draw(tmp_path / "stranger.png", 99)
    with pytest.raises(RunRefused, match="no image with these bytes"):
        correct(run, stranger, "Ann", class_name="crack")
    with pytest.raises(RunRefused, match="no such file"):
        correct(run, tmp_path / "gone.png", "Ann", class_name="crack")
    with pytest.raises(RunRefused, match="no ledger"):
        correct(tmp_path, stranger, "Ann", class_name="crack")
    assert not (tmp_path / "ledger.sqlite").exists()


def test_a_copy_that_was_changed_does_not_train(run: Path, tmp_path: Path) -> None:
    said = correct(run, tmp_path / "in" / "1.png", "Ann", class_name="crack")
    draw(run / said.copy, 5)
    with pytest.raises(RunRefused, match="was changed"):
        annotated_by(run)
    judged(tmp_path / "other", [tmp_path / "in" / "2.png"])
    with pytest.raises(RunRefused, match="nobody corrected"):
        annotated_by(tmp_path / "other")


def test_a_run_that_people_corrected_is_not_overwritten(run: Path, tmp_path: Path) -> None:
    refuse_loss(run)
    refuse_loss(tmp_path / "nowhere")
    for author in ("Bo", "Ann"):
        correct(run, tmp_path / "in" / "1.png", author, class_name="crack")
    with pytest.raises(RunRefused, match="2 corrections by Ann, Bo"):
        refuse_loss(run)
    command = ["predict", str(tmp_path / "in"), "--model", "sheet-steel", "--out", str(run), "--overwrite"]
    assert cli.run([*command, "--device", "cpu"]) == 2
    assert len(said_of(run)) == 2


def test_a_ledger_in_postgresql_holds_corrections_too(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    store: str = request.getfixturevalue("server").fresh()
    image = draw(tmp_path / "in" / "a.png", 1)
    judged(tmp_path / "run", [image], store)
    assert said_of(tmp_path / "run", store) == []
    said = correct(tmp_path / "run", image, "Ann", class_name="crack", store=store)
    assert said_of(tmp_path / "run", store) == [said]
    assert [item.class_name for item in annotated_by(tmp_path / "run", store)] == ["crack"]
    with pytest.raises(RunRefused, match="1 corrections by Ann"):
        refuse_loss(tmp_path / "run", store)


def frames(tmp_path: Path) -> folder.AnnotatedFolder:
    for number in range(20):
        draw(tmp_path / "frames" / ("clean" if number % 2 else "crack") / f"{number:02}.png", 100 + number)
    return folder.read(tmp_path / "frames")


def test_corrections_train_and_leave_what_is_held_out_as_it_was(run: Path, tmp_path: Path) -> None:
    annotated = frames(tmp_path)
    plan = training.plan(annotated, "defects", 1)
    own = tmp_path / "frames" / plan.held_out[0]
    judged(run, [own])
    correct(run, tmp_path / "in" / "1.png", "Ann", class_name="crack")
    correct(run, own, "Ann", class_name="crack" if own.parent.name == "clean" else "clean")
    merged = folder.corrected(annotated, annotated_by(run))
    train, test = training.sides.sides(plan, merged.images)
    assert [item.image.name for item in test] == list(plan.held_out)
    assert test[0].class_name != own.parent.name
    assert len(train) + len(test) == 21
    assert train[-1].class_name == "crack"
    assert merged.remarks[-1] == "corrected since: 1 images of the folder, and 1 further ones"


def test_corrections_of_another_kind_than_the_folder_are_refused_by_name(run: Path, tmp_path: Path) -> None:
    annotated = frames(tmp_path)
    correct(run, tmp_path / "in" / "1.png", "Ann", class_name="crack")
    (item,) = annotated_by(run)
    with pytest.raises(BadFolder, match="no class 'rust'"):
        folder.corrected(annotated, [folder.annotated(item.image, None, "rust")])
    with pytest.raises(BadFolder, match="corrected with a mask"):
        folder.corrected(annotated, [folder.annotated(item.image, np.zeros((32, 32), np.int32), None)])


def test_masks_of_classes_are_read_by_the_table_of_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "phases"
    image = draw(root / "images" / "a.png", 1)
    (root / "masks").mkdir()
    assert cv2.imwrite(str(root / "masks" / "a.png"), np.full((32, 32), 10, np.uint8))
    (root / "classes.yaml").write_text("10: matrix\n20: carbide\n30:\n", encoding="utf-8")
    annotated = folder.read(root)
    right = np.repeat(np.array([10, 20, 30, 10], np.int32), 8)[:, np.newaxis].repeat(32, axis=1)
    (item,) = folder.corrected(annotated, [folder.annotated(formats.read(image), right, None)]).images
    assert item.labels is not None
    assert item.labels[::8, 0].tolist() == [0, 1, -1, 0]
    with pytest.raises(BadFolder, match="does not name: 11"):
        folder.corrected(annotated, [folder.annotated(formats.read(image), right + 1, None)])


def test_the_commands_store_and_learn(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames(tmp_path)
    image = str(tmp_path / "in" / "1.png")
    assert cli.run(["correct", str(run), image, "--class", "crack", "--author", "Ann"]) == 0
    assert "1.png: crack, says Ann." in capsys.readouterr().out
    assert cli.run(["correct", str(run), image, "--class", "rust", "--author", "Ann"]) == 2
    command = ["train", str(tmp_path / "frames"), "--task", "defects", "--out", str(tmp_path / "better")]
    assert cli.run([*command, "--minutes", "0.001", "--corrections", str(run)]) == 0
    assert "corrected since: 0 images of the folder, and 1 further ones" in capsys.readouterr().out
    assert '"images": 21' in (tmp_path / "better" / "card.json").read_text()
