"""How well whole frames, or single pixels, were named: truth against answer, class by class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from micro.score.interval import Interval, bootstrap, proportion


@dataclass(frozen=True, eq=False)
class ClassScore:
    """Truth against answer for a set of frames, read-only.

    class_names: the classes, in the order of the rows and columns of confusion.
    confusion: (K, K) int64; row the true class, column the answered one.
    accuracy: share of frames named right, with its Wilson interval.
    precision, recall, f1: (K,) float64, one value a class; 0 where a class was never answered or never there.
    macro_f1: mean of f1 over the classes that occur in truth or answer, with its bootstrap interval over frames.
    calibration_error: expected calibration error of the answers' probabilities, 0 at best, with its bootstrap interval.
    """

    class_names: tuple[str, ...]
    confusion: NDArray[np.int64]
    accuracy: Interval
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    macro_f1: Interval
    calibration_error: Interval

    def __post_init__(self) -> None:
        for name in ("confusion", "precision", "recall", "f1"):
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    def __str__(self) -> str:
        width = max(len(name) for name in self.class_names)
        lines = [f"{'class':<{width}}  precision  recall     F1  frames"]
        for i, name in enumerate(self.class_names):
            figures = f"{self.precision[i]:9.3f}  {self.recall[i]:6.3f}  {self.f1[i]:5.3f}"
            lines.append(f"{name:<{width}}  {figures}  {self.confusion[i].sum():6d}")
        lines.append(f"accuracy {self.accuracy}")
        lines.append(f"macro-F1 {self.macro_f1}")
        lines.append(f"calibration error {self.calibration_error}")
        return "\n".join(lines)


def compare(
    truth: NDArray[np.integer], probabilities: NDArray[np.floating], class_names: tuple[str, ...]
) -> ClassScore:
    """Score answered probabilities against true classes.

    truth: (N,) index of each frame's true class.
    probabilities: (N, K) of each class, rows summing to 1; the largest is the answer, the first among equals.
    """
    count, classes = probabilities.shape
    if truth.shape != (count,) or classes != len(class_names):
        raise ValueError(
            f"{truth.shape} true classes and {len(class_names)} names for {probabilities.shape} probabilities"
        )
    if count == 0:
        raise ValueError("no frame to score")
    answers = probabilities.argmax(axis=1)
    table = confusion(truth, answers, classes)
    sure, right = probabilities.max(axis=1), answers == truth
    return ClassScore(
        class_names=class_names,
        confusion=table,
        accuracy=proportion(int(np.trace(table)), count),
        precision=_share(np.diag(table), table.sum(axis=0)),
        recall=_share(np.diag(table), table.sum(axis=1)),
        f1=f1(table),
        macro_f1=bootstrap(lambda drawn: macro_f1(confusion(truth[drawn], answers[drawn], classes)), count),
        calibration_error=bootstrap(lambda drawn: calibration_error(sure[drawn], right[drawn]), count),
    )


def confusion(truth: NDArray[np.integer], answers: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Count frames by true class (row) and answered class (column): (K, K)."""
    pairs = np.asarray(truth, dtype=np.int64) * classes + answers
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def f1(table: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return F1 = 2 TP / (2 TP + FP + FN) of each class of a confusion table, (K,); 0 for a class that never occurs.

    C. J. van Rijsbergen, Information Retrieval, 2nd ed. (1979), chapter 7.
    """
    return _share(2 * np.diag(table), table.sum(axis=0) + table.sum(axis=1))


def macro_f1(table: NDArray[np.int64]) -> float:
    """Return the mean F1 over the classes that occur, each counting alike however rare it is.

    The mean of the classes' F1, not the F1 of mean precision and recall; J. Opitz and S. Burst, arXiv 1911.03347.
    """
    occurs = table.sum(axis=0) + table.sum(axis=1) > 0
    return float(f1(table)[occurs].mean())


def iou(table: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the intersection over union TP / (TP + FP + FN) of each class of a confusion table of pixels, (K,).

    P. Jaccard, Bull. Soc. Vaudoise Sci. Nat. 37 (1901) 547. 0 for a class that never occurs.
    """
    return _share(np.diag(table), table.sum(axis=0) + table.sum(axis=1) - np.diag(table))


def mean_iou(table: NDArray[np.int64]) -> float:
    """Return the mean IoU over the classes that occur, background among them, each counting alike however small."""
    occurs = table.sum(axis=0) + table.sum(axis=1) > 0
    return float(iou(table)[occurs].mean())


def calibration_error(confidences: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15) -> float:
    """Return the expected calibration error: how far stated confidence lies from the share that was right.

    Frames are put into bins of equal width in confidence, and the distances weighted by the bins' frames.
    M. P. Naeini, G. Cooper, M. Hauskrecht, AAAI 2015; C. Guo et al., ICML 2017, with 15 bins.

    confidences: (N,) in 0..1, the probability of each frame's answer.
    correct: (N,) whether that answer was right.
    """
    places = _places(confidences, bins)
    stated = np.bincount(places, weights=confidences, minlength=bins)
    right = np.bincount(places, weights=correct, minlength=bins)
    return float(np.abs(stated - right).sum() / len(places))


@dataclass(frozen=True)
class Sureness:
    """Answers about as sure as each other.

    count: how many. stated: their mean confidence. right: the share that was right, with its Wilson interval.
    """

    count: int
    stated: float
    right: Interval


def reliability(confidences: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 10) -> tuple[Sureness, ...]:
    """Return what was stated beside what was right, in bins of equal width in confidence that hold an answer.

    M. H. DeGroot, S. E. Fienberg, The Statistician 32 (1983) 12.

    confidences: (N,) in 0..1. correct: (N,) whether the answer was right.
    """
    places = _places(confidences, bins)
    return tuple(
        Sureness(
            int((places == place).sum()),
            float(confidences[places == place].mean()),
            proportion(int(correct[places == place].sum()), int((places == place).sum())),
        )
        for place in np.unique(places)
    )


def _places(confidences: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    """Return in which of the bins each confidence lies; an edge belongs to the bin below it."""
    return np.clip(np.ceil(np.asarray(confidences, dtype=np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
