"""Backtests: a campaign replayed on a finished table, and how well it went.

`LookupTable` holds what was measured, `replay` lets a method choose from it as if nothing were
known, `curves` says what a choice was worth, `summarise` compares methods over seeds.
"""

from loop.backtest.methods import METHODS, make_method
from loop.backtest.replay import Choice, Method, Prediction, Step, Trace, replay
from loop.backtest.summary import summarise
from loop.backtest.table import LookupTable, average_repeats

__all__ = [
    "METHODS",
    "Choice",
    "LookupTable",
    "Method",
    "Prediction",
    "Step",
    "Trace",
    "average_repeats",
    "make_method",
    "replay",
    "summarise",
]
