"""A bundle put to the test by the engine that users run: against annotated images, and against its own sample."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from micro import bundle as bundles
from micro import drift, formats, tasks
from micro.card import START, Measured
from micro.engine import Engine
from micro.errors import BadFolder, BrokenBundle
from micro.folder import Annotated
from micro.micrograph import Micrograph
from micro.regions import Prediction, Regions
from micro.score import classes, interval, regions

# A sample that has a pixel size or pixels of float lies in a TIFF, which keeps both.
SAMPLE, SCALED_SAMPLE = "sample.png", "sample.tif"
EXPECTED_LABELS = "expected.tif"
EXPECTED_SCORES = "expected.json"
# What networks said of frames that they never saw, before any calibration; `micro calibrate` reads it.
ANSWERS = "answers.csv"
# Other processors round other last bits; more than this is another answer.
MAX_OTHER_PIXELS = 1 / 5000
MAX_OTHER_PROBABILITY = 1e-3


@dataclass(frozen=True, eq=False)
class RegionTrial:
    """How the regions of one image compare with its annotation.

    sure, right: (N,) float32 in 0..1 and bool, the score of each found region that counts, and whether it has a
        partner at IoU 0.5.
    named: (M,) bool, whether the found regions with a partner are called what people called that; none where people
        named no regions.
    """

    image: str
    matches: regions.Matches
    adjusted_rand_index: float
    variation: regions.Variation
    sure: NDArray[np.float32]
    right: NDArray[np.bool_]
    named: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PixelTrial:
    """How the classes of one image's pixels compare with its annotation.

    confusion: (K, K) int64, pixels by true class (row) and answered class (column).
    """

    image: str
    confusion: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Trial:
    """Answers beside the truth, one entry an image; either regions, classes of pixels, or classes of frames.

    class_names: of pixels or frames, in the order of the tables.
    truth: (N,) index of the true class; probabilities: (N, K). images, groups: of those frames.
    """

    regions: tuple[RegionTrial, ...] = ()
    pixels: tuple[PixelTrial, ...] = ()
    class_names: tuple[str, ...] = ()
    truth: NDArray[np.int64] | None = None
    probabilities: NDArray[np.float64] | None = None
    images: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def measured(self, on: str) -> tuple[Measured, ...]:
        """Return the figures that a card carries, each with its 95 % interval; on: what the images are, in words."""
        if self.regions:
            return tuple(_figure(what, value, on) for what, value in _region_figures(self.regions))
        if self.pixels:
            return tuple(_figure(what, value, on) for what, value in _pixel_figures(self.pixels, self.class_names))
        score = self.class_score()
        figures = (
            ("accuracy", score.accuracy),
            ("macro-F1", score.macro_f1),
            ("calibration error", score.calibration_error),
        )
        return tuple(_figure(what, value, on) for what, value in figures)

    def class_score(self) -> classes.ClassScore:
        """Return the score of the named frames."""
        return classes.compare(*self.frames(), self.class_names)

    def frames(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the true class (N,) and the probabilities (N, K) of each frame, where frames were answered."""
        assert self.truth is not None
        assert self.probabilities is not None
        return self.truth, self.probabilities

    def badness(self) -> NDArray[np.float64]:
        """Return for each image (N,) how far its answer is from the truth, 0 to 1.

        1 - AP at IoU 0.5, 1 - mean IoU of the classes, or 1 - probability of the frame's true class.
        """
        if self.regions:
            return np.array([1 - row.matches.average_precision for row in self.regions])
        if self.pixels:
            return np.array([1 - classes.mean_iou(row.confusion) for row in self.pixels])
        truth, probabilities = self.frames()
        return np.asarray(1 - probabilities[np.arange(len(truth)), truth])

    def sureness(self) -> tuple[classes.Sureness, ...]:
        """Return how sure the answers were beside how many of them were right: of regions or frames; none of pixels."""
        if self.pixels:
            return ()
        if self.regions:
            sure, right = (np.concatenate([getattr(row, name) for row in self.regions]) for name in ("sure", "right"))
            return classes.reliability(sure, right)
        truth, probabilities = self.frames()
        return classes.reliability(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth)

    def describe(self) -> str:
        """Return the trial as a table to print."""
        if self.pixels:
            lines = ["  ".join((*(f"{name:>10}" for name in (*self.class_names, "mean IoU")), "image"))]
            for part in self.pixels:
                figures = (*classes.iou(part.confusion), classes.mean_iou(part.confusion))
                lines.append("  ".join((*(f"{figure:10.3f}" for figure in figures), part.image)))
            lines += [f"{what} {value}" for what, value in _pixel_figures(self.pixels, self.class_names)]
            return "\n".join(lines)
        if not self.regions:
            return str(self.class_score())
        lines = [f"{'ARI':>6}  {'AP50':>6}  {'F1':>6}  {'VI':>6}  right  false  missed  image"]
        lines += [
            f"{row.adjusted_rand_index:6.3f}  {row.matches.average_precision:6.3f}  {row.matches.f1:6.3f}  "
            f"{row.variation.total_bits:6.3f}  {row.matches.matched:5d}  {row.matches.only_found:5d}  "
            f"{row.matches.only_truth:6d}  {row.image}"
            for row in self.regions
        ]
        lines += [f"{what} {value}" for what, value in _region_figures(self.regions)]
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Case:
    """One image beside its truth and its answer.

    badness: as `Trial.badness` has it.
    truth: (Y, X) as it was counted: instances or numbers of classes, -1 where nothing is known or counts; or None.
    found: (Y, X) regions or numbers of classes; None where the class of the frame is the answer.
    class_name: the true class of the frame. class_scores: what the bundle said of it.
    """

    image: Micrograph
    badness: float
    truth: NDArray[np.integer] | None
    found: NDArray[np.integer] | None
    class_name: str | None
    class_scores: dict[str, float]


def run(engine: Engine, items: Sequence[Annotated]) -> Trial:
    """Predict annotated images and compare.

    True regions smaller than the smallest one that the bundle reports (its min_area_px) are not counted, nor are found
    regions that lie mostly where the annotation says nothing, nor images of which it says nothing at all.
    Raises BadFolder when the bundle answers another kind of question.
    """
    items = measurable(items)
    if not items:
        raise BadFolder("There is no annotated image to score.")
    if items[0].labels is None:
        return _class_trial(engine, items)
    if engine.task.decode is None:
        raise BadFolder(f"{engine.card.name} names whole frames, and these images are annotated with masks.")
    if engine.task.of_classes is not None:
        return _pixel_trial(engine, items)
    rows = []
    for item in items:
        found = engine.predict(item.image).regions
        assert found is not None
        truth = _counted(engine, item)
        cells = regions.overlap(truth, found.labels)
        known = regions.overlap(truth, regions.mostly_known(found.labels, truth))
        counted = np.unique(known.found[known.found > 0])
        partners = regions.pairs(known)
        named = [
            item.region_classes[there - 1] == found.class_names[here - 1]
            for there, here in zip(partners.truth, partners.found, strict=True)
            if item.region_classes
        ]
        rows.append(
            RegionTrial(
                image=item.image.name,
                matches=regions.match(known),
                adjusted_rand_index=regions.adjusted_rand_index(cells),
                variation=regions.variation_of_information(cells),
                sure=found.scores[counted - 1],
                right=np.isin(counted, partners.found),
                named=np.array(named, bool),
            )
        )
    return Trial(tuple(rows))


def measurable(items: Sequence[Annotated]) -> list[Annotated]:
    """Return the images of whose annotation something is known; elsewhere no answer is right or wrong."""
    return [item for item in items if item.labels is None or (item.labels >= 0).any()]


def worst(engine: Engine, items: Sequence[Annotated], score: Trial, count: int) -> tuple[Case, ...]:
    """Return at most so many of the images of a trial, those answered worst first, with the answers drawn up again."""
    items, badness = measurable(items), score.badness()
    cases = []
    for number in np.argsort(-badness, kind="stable")[:count].tolist():
        item = items[number]
        answer = engine.predict(item.image)
        truth: NDArray[np.integer] | None = None
        found: NDArray[np.integer] | None = None
        if item.labels is not None and answer.regions is not None:
            truth, found = _counted(engine, item), answer.regions.labels
            if engine.task.of_classes is not None:
                found = _class_numbers(engine, answer.regions)
        cases.append(Case(item.image, float(badness[number]), truth, found, item.class_name, answer.class_scores))
    return tuple(cases)


def joined(trials: Sequence[Trial]) -> Trial:
    """Return the trials of the folds of one cross-validation as one."""
    truths = [part.truth for part in trials if part.truth is not None]
    probabilities = [part.probabilities for part in trials if part.probabilities is not None]
    return Trial(
        regions=tuple(row for part in trials for row in part.regions),
        pixels=tuple(row for part in trials for row in part.pixels),
        class_names=trials[0].class_names,
        truth=np.concatenate(truths) if truths else None,
        probabilities=np.concatenate(probabilities) if probabilities else None,
        images=tuple(name for part in trials for name in part.images),
        groups=tuple(name for part in trials for name in part.groups),
    )


def keep_answers(folder: Path, trial: Trial) -> None:
    """Write what networks said of frames they never saw as a table in a bundle; `kept_answers` reads it back."""
    with (folder / ANSWERS).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("image", "group", "class", *(f"p_{name}" for name in trial.class_names)))
        for image, group, truth, row in zip(trial.images, trial.groups, *trial.frames(), strict=True):
            table.writerow((image, group, trial.class_names[truth], *(f"{p:.6g}" for p in row)))


def kept_answers(bundle: bundles.Bundle) -> Trial:
    """Return what networks of the bundle's training said of frames that they never saw, before any calibration.

    Raises BrokenBundle where the bundle holds no such table, or one of other classes.
    """
    path = bundle.folder / ANSWERS
    if not path.is_file():
        raise BrokenBundle(
            f"{path}: {bundle.card.name} keeps no answers to frames that it never saw. `micro train --folds` keeps "
            f"them; or name a folder of annotated frames that it never saw."
        )
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = bundle.card.classifier.outputs if bundle.card.classifier else bundle.card.classes
    try:
        return Trial(
            class_names=names,
            truth=np.array([names.index(row["class"]) for row in rows]),
            probabilities=np.array([[float(row[f"p_{name}"]) for name in names] for row in rows]),
            images=tuple(row["image"] for row in rows),
            groups=tuple(row["group"] for row in rows),
        )
    except (KeyError, ValueError) as fault:
        raise BrokenBundle(f"{path}: not a table of answers in the classes of {bundle.card.name}. {fault}") from fault


def statistics(engine: Engine, image: Micrograph) -> drift.Statistics:
    """Return what a line watches of an image and of the bundle's answer to it."""
    return drift.statistics(image) | drift.answer_statistics(engine.predict(image))


def keep_proof(folder: Path, sample: Micrograph, answer: Prediction) -> None:
    """Write the sample and the answer that was found right when the bundle was made; `prove` compares with it."""
    is_plain = sample.pixel_size_um is None and sample.pixels.dtype.kind == "u"
    formats.write_image(folder / (SAMPLE if is_plain else SCALED_SAMPLE), sample)
    if answer.regions is not None:
        formats.write_labels(folder / EXPECTED_LABELS, answer.regions.labels, None)
    text = json.dumps({"class_scores": answer.class_scores}, indent=2, sort_keys=True)
    (folder / EXPECTED_SCORES).write_text(text + "\n", encoding="utf-8")


def sample_of(bundle: bundles.Bundle) -> Micrograph:
    """Return the image that a bundle was last seen to answer right.

    Raises UnreadableImage where it has none, and BadSetting where it is a start, which answers no image.
    """
    tasks.find(bundle.card.task)
    scaled = bundle.folder / SCALED_SAMPLE
    return formats.read(scaled if scaled.is_file() else bundle.folder / SAMPLE)


def prove(bundle: bundles.Bundle, device: str = "auto") -> str:
    """Run a bundle on its own sample and return one sentence on what agreed.

    Raises BrokenBundle when the answer is not the one that was stored with it.
    """
    if bundle.card.task == START:
        bundle.weights()
        return "a start for training; its weights are those that its card names"
    engine = Engine(bundle, device=device)
    answer = engine.predict(sample_of(bundle))
    agreed = []
    if answer.regions is not None:
        expected = formats.read_labels(bundle.folder / EXPECTED_LABELS)
        if expected.shape != answer.regions.labels.shape:
            raise BrokenBundle(f"{bundle.folder}: sample and expected labels differ in size.")
        # region numbers follow from the pixels, so equal regions have equal numbers
        others = float((expected != answer.regions.labels).mean())
        if others > MAX_OTHER_PIXELS:
            raise BrokenBundle(
                f"{bundle.folder}: {others:.2%} of the sample's pixels have another label than when it was made."
            )
        agreed.append(f"{len(answer.regions)} regions as expected")
    expected_scores = _expected_scores(bundle)
    # the largest of numpy is NaN where any is, and that is not near any number
    off = np.max([abs(expected_scores.get(name, 0) - p) for name, p in answer.class_scores.items()], initial=0.0)
    if not off <= MAX_OTHER_PROBABILITY or expected_scores.keys() != answer.class_scores.keys():
        raise BrokenBundle(f"{bundle.folder}: a class probability of the sample is {off:.3f} from what it was.")
    if answer.class_name is not None:
        agreed.append(f"class {answer.class_name} as expected")
    return ", ".join(agreed)


def _expected_scores(bundle: bundles.Bundle) -> dict[str, float]:
    path = bundle.folder / EXPECTED_SCORES
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))["class_scores"]
        return {name: float(score) for name, score in stored.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise BrokenBundle(f"{path}: not the answer to the sample of a bundle. {fault!r}") from fault


def _class_trial(engine: Engine, items: Sequence[Annotated]) -> Trial:
    if engine.card.classifier is None:
        raise BadFolder(f"{engine.card.name} finds regions, and these images are sorted into classes.")
    names = engine.card.classifier.outputs
    strange = sorted({item.class_name for item in items if item.class_name not in names}, key=str)
    if strange:
        raise BadFolder(
            f"{engine.card.name} knows the classes {', '.join(names)}, and not {', '.join(map(str, strange))}."
        )
    answers = [engine.predict(item.image).class_scores for item in items]
    return Trial(
        class_names=names,
        truth=np.array([names.index(item.class_name or "") for item in items]),
        probabilities=np.array([[scores[name] for name in names] for scores in answers]),
        images=tuple(item.image.name for item in items),
        groups=tuple(item.group for item in items),
    )


def _pixel_trial(engine: Engine, items: Sequence[Annotated]) -> Trial:
    names = engine.task.outputs
    rows = []
    for item in items:
        found = engine.predict(item.image).regions
        assert found is not None
        assert item.labels is not None
        answer = _class_numbers(engine, found)
        known = item.labels >= 0
        rows.append(PixelTrial(item.image.name, classes.confusion(item.labels[known], answer[known], len(names))))
    return Trial(pixels=tuple(rows), class_names=names)


def _counted(engine: Engine, item: Annotated) -> NDArray[np.integer]:
    """Return the labels of an image (Y, X) as they count: without instances that the bundle would not report."""
    assert item.labels is not None
    if engine.task.of_classes is not None:
        return item.labels
    return regions.without_specks(item.labels, int(getattr(engine.settings, "min_area_px", 1)))


def _class_numbers(engine: Engine, found: Regions) -> NDArray[np.int64]:
    """Return the number of the class of each pixel (Y, X)."""
    return np.array([0, *map(engine.task.outputs.index, found.class_names)])[found.labels]


def _pixel_figures(rows: Sequence[PixelTrial], names: Sequence[str]) -> list[tuple[str, interval.Interval]]:
    tables = np.stack([row.confusion for row in rows])

    def figures(table: NDArray[np.int64]) -> list[float]:
        right = float(np.trace(table) / max(table.sum(), 1))
        # over all classes together TP is the share that is right, and what is wrong is FP of one and FN of another
        return [classes.mean_iou(table), *map(float, classes.iou(table)), right, right / (2 - right)]

    def over_images(index: int) -> interval.Interval:
        return interval.bootstrap(lambda drawn: figures(tables[drawn].sum(axis=0))[index], len(rows))

    whats = ("mean IoU", *(f"IoU of {name}" for name in names), "pixels named right", "IoU over all classes together")
    return [(what, over_images(index)) for index, what in enumerate(whats)]


def _region_figures(rows: Sequence[RegionTrial]) -> list[tuple[str, interval.Interval]]:
    total = regions.pooled(row.matches for row in rows)

    def f1(drawn: NDArray[np.intp]) -> float:
        return regions.pooled(rows[index].matches for index in drawn).f1

    named = np.concatenate([row.named for row in rows])
    return [
        ("adjusted Rand index", interval.mean(np.array([row.adjusted_rand_index for row in rows]))),
        (
            "AP at IoU 0.5",
            interval.proportion(total.matched, total.matched + total.only_found + total.only_truth),
        ),
        ("F1 at IoU 0.5", interval.bootstrap(f1, len(rows))),
        ("variation of information, bits", interval.mean(np.array([row.variation.total_bits for row in rows]))),
        ("false regions an image", interval.mean(np.array([row.matches.only_found for row in rows], np.float64))),
        *([("found regions named right", interval.proportion(int(named.sum()), len(named)))] if len(named) else []),
    ]


def _figure(what: str, value: interval.Interval, on: str) -> Measured:
    rounded = (round(part, 4) for part in (value.value, value.low, value.high))
    return Measured(what=what, **dict(zip(("value", "low", "high"), rounded, strict=True)), on=on)
