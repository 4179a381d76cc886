"""Ax and BayBE as methods of a backtest: each with its defaults, and told all that it can use.

Both are imported when they are made and not before. Neither is asked to search a space in which
nothing but the table can be made: they choose among the designs that are left, by their own
surrogate and their own acquisition function.
"""

from loop.peers.ax_client import Ax
from loop.peers.baybe_campaign import BayBE

__all__ = ["Ax", "BayBE"]
