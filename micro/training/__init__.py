"""From an annotated folder to a bundle: a plan that can be read first, then steps that can be interrupted."""

from micro.training.loop import Epoch, train_steps
from micro.training.making import About, Making
from micro.training.outcome import Curve, Outcome, Scored
from micro.training.plan import IMAGENET, TrainingPlan, plan, read_plan, usual_start, write_plan
from micro.training.sides import held_out_images, held_out_of_all, unseen_images

__all__ = [
    "IMAGENET",
    "About",
    "Curve",
    "Epoch",
    "Making",
    "Outcome",
    "Scored",
    "TrainingPlan",
    "held_out_images",
    "held_out_of_all",
    "plan",
    "read_plan",
    "train_steps",
    "unseen_images",
    "usual_start",
    "write_plan",
]
