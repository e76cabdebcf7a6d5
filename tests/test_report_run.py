import base64
import errno
import hashlib
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import browser
import numpy as np
import pytest
from run_folder import HOSTILE, RECORD, Read, Run

from micro import cli, formats
from micro.errors import MicroError
from micro.line import schema
from micro.line.record import undone
from micro.line.watcher import Depth, Ended, RunSummary, tell
from micro.report import account
from micro.report import run as run_page
from micro.report.run import at_the_end, write_run


def page_of(made: Run, file: Path | None = None, **record: Any) -> Read:
    """Store what was added to a run, and return its page."""
    made.store(**record)
    file = file or made.folder / "report.html"
    write_run(made.folder, file)
    return Read(file)


@pytest.fixture
def made(tmp_path: Path) -> Run:
    return Run(tmp_path / "out")


def names(read: Read) -> list[str]:
    return [str(picture["alt"]).partition(": ")[2] for picture in read.all("img")]


def test_not_good_comes_first_the_surest_first_then_review_and_the_rest_the_least_sure_first(made: Run) -> None:
    for name, verdict, score in (
        *(("ok sure", "OK", 0.99), ("ok", "OK", 0.85), ("ng", "NG", 0.9), ("ng sure", "NG", 0.95)),
        *(("review", "REVIEW", 0.7), ("review unsure", "REVIEW", 0.5)),
    ):
        made.add(name, verdict, score=score, **{"class": "crack"})
    assert names(page_of(made)) == ["ng sure", "ng", "review unsure", "review", "ok", "ok sure"]


def test_counts_are_those_of_the_ledger_and_throughput_is_that_of_the_last_start(made: Run) -> None:
    for number in range(7):
        made.add(f"{number}", ("NG", "REVIEW", "OK", "OK")[number % 4], score=0.9, **{"class": f"c{number % 2}"})
    made.add("bad", None, state="quarantined", sha256=None, error="bad: the file is empty.")
    made.add("waits", None, state="queued", sha256=None)
    text = page_of(made).text
    for words in ("images 9", "NG 2", "REVIEW 2", "OK 3", "quarantined 1", "waiting 1", "throughput 1.70 images/s"):
        assert words in text
    assert "c0 2 0 2" in text, "class c0: 2 NG, 0 REVIEW, 2 OK"
    assert "c1 0 2 1" in text
    assert "bad the file is empty." in text
    assert "tries those again that have changed, and all with --retry-quarantined." in text


def test_images_of_which_another_had_the_name_later_are_counted_as_that(made: Run) -> None:
    for name, grey in (("a", 1), ("a", 2), ("b", 3)):
        made.add(name, pixels=np.full((8, 12), grey, np.uint8))
    text = page_of(made).text
    assert "images 3" in text
    assert "1 of these images had a name that another image had later" in text


def test_a_class_without_a_score_is_named_without_one(made: Run) -> None:
    made.add("a", "REVIEW", score=None, **{"class": "crack"})
    assert "a crack" in page_of(made).text


def test_remarks_are_listed_with_how_many_images_they_are_of(made: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        made.add(f"{number}", notes=["alpha channel dropped", f"read at 0.{number}"])
    text = page_of(made).text
    assert "alpha channel dropped 3" in text
    assert "read at 0.2 1" in text
    monkeypatch.setattr(account, "MOST_REMARKS", 2)
    assert "others, which are in images.csv 2" in page_of(made).text
    assert "Remarks" not in page_of(Run(made.folder.parent / "none" / "out")).text


def test_a_run_without_verdicts_shows_what_was_found_with_outlines(made: Run) -> None:
    labels = np.zeros((8, 12), np.int32)
    labels[2:6, 2:9] = 1
    (made.folder / "labels").mkdir()
    formats.write_labels(made.folder / "labels" / "a.tif", labels)
    made.add("a.png", None, n_regions=1, labels="labels/a.tif", id=1)
    made.add("b.png", None, n_regions=0, id=2)
    made.regions = [{"image_id": 1, "index": 1, "class": "thin", "score": 0.5, "columns": {}}]
    read = page_of(made)
    assert "regions 1" in read.text
    assert "thin 1" in read.text
    outlined, plain = (str(picture["src"]) for picture in read.all("img"))
    assert len(outlined) != len(plain)
    assert "Scores" not in read.text


def test_an_image_that_changed_or_went_away_is_named_without_a_picture(made: Run) -> None:
    for name in ("changed", "gone", "same"):
        made.add(name, "NG", score=0.9, **{"class": "crack"})
    (made.images / "0.png").write_bytes((made.images / "2.png").read_bytes())
    (made.images / "1.png").unlink()
    read = page_of(made)
    assert names(read) == ["same"]
    assert "The file has changed since it was judged." in read.text
    assert "gone: does not exist" in read.text


def test_more_images_than_a_page_shows_are_listed_and_then_counted(made: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_page, "PICTURES", {"NG": 5, "REVIEW": 5, "OK": 1, "found": 5})
    monkeypatch.setattr(run_page, "LISTED", {"NG": 7, "REVIEW": 0, "OK": 0, "found": 0})
    monkeypatch.setattr(run_page, "PICTURES_A_PAGE", 2)
    for number in range(20):
        made.add(f"ng-{number:02}", "NG", score=0.5)
    read = page_of(made)
    assert names(read) == [f"ng-{number:02}" for number in range(5)]
    for words in ("1 to 2", "3 to 4", "5 to 5", "6 to 12, listed", "8 more are in images.csv"):
        assert words in read.text
    assert "ng- 11" not in read.text
    assert "ng-11" in read.text
    assert "ng-12" not in read.text
    assert [("open" in each) for each in read.all("details")] == [True, False, False, False]
    assert all(picture["loading"] == "lazy" for picture in read.all("img"))


def test_a_hundred_thousand_rows_make_a_page_of_bounded_size(made: Run) -> None:
    """The pictures are left out here: their number and size are fixed."""
    engine = schema.connect(made.folder, writes=True)
    verdicts = ("OK", "NG", "REVIEW", "OK")
    rows = [
        {
            "name": f"coil {number // 1000}/frame-{number:06}.png",
            "address": str(made.images / "none.png"),
            "state": "quarantined" if number % 100 == 0 else "done",
            "attempt": 1,
            "sha256": f"{number:064x}",
            "verdict": None if number % 100 == 0 else verdicts[number % 4],
            "class": f"c{number % 7}",
            "score": (number % 1000) / 1000,
            "seconds": 0.01,
        }
        for number in range(100_000)
    ]
    with engine.begin() as connection:
        schema.create(connection)
        connection.execute(schema.images.insert(), rows)
    engine.dispose()
    read = page_of(made)
    assert "images 100 000" in read.text
    assert "quarantined 1 000" in read.text
    assert (made.folder / "report.html").stat().st_size < 1_500_000


def test_drift_is_shown_where_the_run_recorded_it(made: Run) -> None:
    made.add("a", score=0.9)
    assert "Drift" not in page_of(made).text
    row = {"statistic": "brightness_mean", "images": 60, "psi": 0.4, "ks": 0.3, "p_value": 0.0001}
    row |= {"median_then": 0.5, "median_now": 0.2, "is_drift": True}
    drift = {"alarm": True, "reference": "907 images of <strip>", "window_images": 200, "statistics": [row]}
    text = page_of(made, drift=drift).text
    assert "do not look like those that the bundle was made with" in text
    assert "60 of the last images beside 907 images of <strip>" in text
    assert "brightness_mean 0.500 0.200 0.40 0.30 0.00010 drift" in text
    text = page_of(made, drift=drift | {"alarm": False, "statistics": []}).text
    assert "Too few images so far to compare them with 907 images of <strip>" in text
    assert "No drift" not in text


def test_a_run_under_way_says_so(made: Run) -> None:
    made.add("a")
    assert "Under way, or killed" in page_of(made, state="running", ended=None).text


def test_links_lead_to_the_files_as_seen_from_the_page(made: Run, tmp_path: Path) -> None:
    (made.folder / "images.csv").touch()
    made.add("a", "NG", score=0.9)
    for file in (made.folder / "report.html", tmp_path / "else where" / "page.html"):
        links = [unquote(str(link["href"])) for link in page_of(made, file).all("a")]
        targets = {(file.parent / link).resolve() for link in links}
        assert {made.images / "0.png", made.folder / "images.csv", made.folder / "run.json"} <= targets
        assert all(link.startswith(("./", "../")) for link in links)


def test_where_there_is_no_run_the_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MicroError, match="holds no record of a run"):
        write_run(tmp_path, tmp_path / "report.html")
    for other in ("[]", '{"configurations": []}'):
        (tmp_path / "run.json").write_text(other, encoding="utf-8")
        for reader in (undone, lambda folder: write_run(folder, folder / "report.html")):
            with pytest.raises(MicroError, match="is not the record of a run"):
                reader(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(RECORD), encoding="utf-8")
    with pytest.raises(MicroError, match="--store"):
        write_run(tmp_path, tmp_path / "report.html")
    (tmp_path / "ledger.sqlite").write_text("dear diary\n" * 100, encoding="utf-8")
    with pytest.raises(MicroError, match="its ledger cannot be read"):
        write_run(tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_the_verb_writes_the_page_beside_the_run_or_where_it_is_told(made: Run, tmp_path: Path) -> None:
    made.add("a")
    page_of(made).all("title")
    (made.folder / "report.html").unlink()
    assert cli.run(["report", str(made.folder)]) == 0
    assert cli.run(["report", str(made.folder), "--out", str(tmp_path / "new" / "page.html")]) == 0
    assert Read(made.folder / "report.html").all("title")
    assert Read(tmp_path / "new" / "page.html").all("title")
    assert cli.run(["report", str(tmp_path / "nowhere")]) == 2


def test_a_run_that_took_the_place_of_a_specimen_has_a_page_of_its_own(made: Run) -> None:
    made.add("a")
    page_of(made)
    (made.folder / "specimen.json").write_text('{"name": "of before"}', encoding="utf-8")
    assert cli.run(["report", str(made.folder)]) == 0
    assert Read(made.folder / "report.html").all("title")


def test_the_page_of_a_run_takes_no_operator_and_no_place_of_its_files(
    made: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    made.add("a")
    page_of(made)
    assert cli.run(["report", str(made.folder), "--operator", "Ada"]) == 2
    assert "--operator says who measured a specimen" in " ".join(capsys.readouterr().err.split())
    ledger = (made.folder / "ledger.sqlite").read_bytes()
    assert cli.run(["report", str(made.folder), "--out", str(made.folder / "ledger.sqlite")]) == 2
    assert (made.folder / "ledger.sqlite").read_bytes() == ledger


@pytest.fixture
def hostile(made: Run) -> Path:
    """The page of a run with names, classes and reasons that would run or hide something if they were let."""
    for number, name in enumerate(HOSTILE):
        made.add(name, "NG", score=0.9, **{"class": HOSTILE[number - 1]})
        made.add(f"bad {name}", None, state="quarantined", sha256=None, error=f"{HOSTILE[number - 1]} is empty")
    page_of(made, device=HOSTILE[0], state="finished")
    return made.folder / "report.html"


def test_hostile_names_are_texts_and_nothing_else(hostile: Path) -> None:
    read = Read(hostile)
    tags = {tag for tag, _ in read.elements}
    assert not tags & {"script", "iframe", "object", "embed", "form", "base", "link"}
    for tag, attributes in read.elements:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href"):
            address = attributes.get(name) or ""
            assert re.match(r"(data:image/(jpeg|png);base64,|\./|\.\./|#|$)", address), address
    pictures = [str(picture["alt"]) for picture in read.all("img")]
    assert len(pictures) == len(HOSTILE)
    shown = [name.replace("\n", "\\n").replace("\u202e", "\\u202e") for name in HOSTILE]
    assert sorted(picture.partition(": ")[2] for picture in pictures) == sorted(shown)
    for name in shown:
        assert name in "".join(read.texts), name
    assert "\u202e" not in hostile.read_text(encoding="utf-8")


def test_the_page_forbids_the_browser_to_run_or_fetch_anything(hostile: Path) -> None:
    (policy,) = (
        str(meta["content"])
        for meta in Read(hostile).all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules.keys() == {"default-src", "img-src", "style-src", "base-uri", "form-action"}
    assert (rules["default-src"], rules["base-uri"], rules["form-action"]) == ("'none'", "'none'", "'none'")
    assert rules["img-src"] == "data:"
    (style,) = re.findall("<style>(.*?)</style>", hostile.read_text(encoding="utf-8"), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert rules["style-src"] == f"'sha256-{digest}'", "the page's own style is let in"


@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")
def test_in_a_browser_no_name_runs_a_script_with_and_without_the_policy(hostile: Path, tmp_path: Path) -> None:
    text = hostile.read_text(encoding="utf-8")
    bare, canary = tmp_path / "bare.html", tmp_path / "canary.html"
    bare.write_text(re.sub("<meta http-equiv=[^>]*>", "", text), encoding="utf-8")
    canary.write_text("<title>out</title><img src=x onerror=\"document.title='owned'\">", encoding="utf-8")
    for page in (hostile, bare):
        document = browser.opened(page, tmp_path / "profile")
        assert browser.title(document) == "out: run report"
        assert document.count("<figure") == len(HOSTILE)
    assert browser.title(browser.opened(canary, tmp_path / "profile")) == "owned", "this browser does run scripts"


def test_a_run_leaves_its_page_when_it_ends_and_when_it_is_interrupted(made: Run) -> None:
    made.add("a", "NG", score=0.9)
    made.store(state="interrupted")
    watch = at_the_end(made.folder)
    watch(Depth(1, 1))
    assert not (made.folder / "report.html").exists()
    watch(Ended("interrupted", RunSummary(1, 1, 0, 0, 1, 2.0)))
    assert "Interrupted" in Read(made.folder / "report.html").text


def test_a_page_that_finds_no_room_is_one_sentence(
    made: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    made.add("a", "NG", score=0.9)
    made.store()
    monkeypatch.setattr("micro.report.page.replacing", full)
    tell([at_the_end(made.folder)], Ended("finished", RunSummary(1, 1, 0, 0, 1, 2.0)))
    (said,) = caplog.records
    assert said.exc_info is None
    assert "the report cannot be written (No space left on device)" in said.message
