"""Whether what was found may ship: OK, NG, or REVIEW for a person to look at."""

from micro.decide.calibration import fit_temperature, temperatures_held_apart, tempered
from micro.decide.study import Study, study
from micro.decide.thresholds import Thresholds, Wishes
from micro.decide.verdict import NG, OK, REVIEW, together, verdict

__all__ = [
    "NG",
    "OK",
    "REVIEW",
    "Study",
    "Thresholds",
    "Wishes",
    "fit_temperature",
    "study",
    "temperatures_held_apart",
    "tempered",
    "together",
    "verdict",
]
