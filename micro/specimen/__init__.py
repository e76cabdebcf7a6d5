"""The fields of one specimen as label files: measured without a network, after whatever people corrected in them."""

from micro.specimen.fields import Labelled, of_files, of_run
from micro.specimen.measuring import Measured, Reading, measure_steps

__all__ = ["Labelled", "Measured", "Reading", "measure_steps", "of_files", "of_run"]
