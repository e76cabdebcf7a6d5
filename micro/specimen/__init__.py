"""The fields of one specimen as label files: measured without a network, after whatever people corrected in them."""

from micro.specimen.fields import Labelled, of_files, of_run
from micro.specimen.measuring import RECORD_NAME, Measured, Reading, grains_of, measure_steps

__all__ = ["RECORD_NAME", "Labelled", "Measured", "Reading", "grains_of", "measure_steps", "of_files", "of_run"]
