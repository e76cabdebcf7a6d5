"""The grain size of a specimen by the standards: what is counted on fields with known grains, and what follows from it.

`assess` does everything; the other names are its parts.
"""

from micro.grain_size.assessment import Assessment, Field, assess
from micro.grain_size.count import Count, FieldCount, Method, Pattern
from micro.grain_size.distribution import Distribution, describe_diameters
from micro.grain_size.drawing import paint
from micro.grain_size.section import Section, grains_between, section_of, without_small
from micro.grain_size.statistics import SpecimenSize, combine

__all__ = [
    "Assessment",
    "Count",
    "Distribution",
    "Field",
    "FieldCount",
    "Method",
    "Pattern",
    "Section",
    "SpecimenSize",
    "assess",
    "combine",
    "describe_diameters",
    "grains_between",
    "paint",
    "section_of",
    "without_small",
]
