"""The grain size of a specimen by the standards: what is counted on fields with known grains, and what follows from it.

`assess` does everything, field by field with `tally` and then `conclude`; the other names are its parts.
"""

from micro.grain_size.assessment import Assessment, Field, Tally, assess, conclude, tally
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
    "Tally",
    "assess",
    "combine",
    "conclude",
    "describe_diameters",
    "grains_between",
    "paint",
    "section_of",
    "tally",
    "without_small",
]
