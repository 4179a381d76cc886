"""Learning from results: a generator and what was examined become the generator's next version.

Four ways under one interface, `generators.fine_tuning.tune.fine_tune`, told by a `Recipe`.
Importing this loads no torch.
"""

from generators.fine_tuning.recipe import (
    METHODS,
    Aim,
    Collapsed,
    Examined,
    FineTuneError,
    Floor,
    Recipe,
    Runtime,
)

__all__ = [
    "METHODS",
    "Aim",
    "Collapsed",
    "Examined",
    "FineTuneError",
    "Floor",
    "Recipe",
    "Runtime",
]
