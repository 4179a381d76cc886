"""How good a generator of crystals is: metrics as the field defines them."""

from generators.crystals.metrics.figures import Figure, wilson
from generators.crystals.metrics.properties import Constraint
from generators.crystals.metrics.reading import (
    MOST_ATOMS,
    Row,
    check,
    columns_of,
    held_out,
    read_rows,
)
from generators.crystals.metrics.reconstruction import evaluate_reconstruction
from generators.crystals.metrics.report import GROUPS, Plan, evaluate, published
from generators.crystals.metrics.stability import Potential, Relaxed
from generators.crystals.metrics.validity import evaluate_prior

__all__ = [
    "GROUPS",
    "MOST_ATOMS",
    "Constraint",
    "Figure",
    "Plan",
    "Potential",
    "Relaxed",
    "Row",
    "check",
    "columns_of",
    "evaluate",
    "evaluate_prior",
    "evaluate_reconstruction",
    "held_out",
    "published",
    "read_rows",
    "wilson",
]
