"""Probabilities that mean what they say: of the frames answered with 0.9, nine in ten are right."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

# By fewer frames a temperature would be chance.
LEAST_FRAMES = 50
# A network that is right on every frame tried would be made sure of everything.
COLDEST, HOTTEST = 0.25, 4.0
# float32 probabilities below this have lost their digits
_SMALLEST = 1e-30


def tempered(probabilities: NDArray[np.floating], temperature: float | NDArray[np.floating]) -> NDArray[np.float64]:
    """Return probabilities (N, K) with their logits divided by a temperature, one for all or one a frame (N,).

    Above 1 the answers become less sure, below 1 surer; which class comes first never changes.
    """
    logits = np.log(np.clip(np.asarray(probabilities, np.float64), _SMALLEST, 1))
    logits /= np.reshape(temperature, (-1, 1))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fit_temperature(truth: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    """Return the temperature under which the true classes are likeliest, between COLDEST and HOTTEST.

    C. Guo et al., On calibration of modern neural networks, ICML 2017. 1 where there are fewer than LEAST_FRAMES.

    truth: (N,) index of each frame's true class. probabilities: (N, K), of frames that the network never saw.
    """
    if len(truth) < LEAST_FRAMES:
        return 1.0

    def unlikely(log_temperature: float) -> float:
        right = tempered(probabilities, np.exp(log_temperature))[np.arange(len(truth)), truth]
        return float(-np.log(np.clip(right, _SMALLEST, 1)).mean())

    found = minimize_scalar(unlikely, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return round(float(np.exp(found.x)), 4)


def temperatures_held_apart(
    truth: NDArray[np.integer], probabilities: NDArray[np.floating], folds: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return for each frame (N,) the temperature that the frames of the other folds give.

    folds: (N,) fold of each frame.
    """
    found = np.ones(len(truth))
    for fold in np.unique(folds):
        others = folds != fold
        found[~others] = fit_temperature(truth[others], probabilities[others])
    return found
