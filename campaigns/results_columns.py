"""The columns of a results file: what their names say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from campaigns import units
from campaigns.errors import did_you_mean, quoted

PLAIN = ("trial", "status", "reason", "source", "cif")
"""Columns beside those of the metrics; `fidelity` too, where the campaign has fidelities."""

REALISED: Final = "_realised"
"""Ends the name of a column that says how a parameter really was: `temperature_realised (K)`."""

_HEADER = re.compile(
    r"\s*(?P<name>[^()\[\]]*?)\s*(?:\((?P<a>[^()]*(?:\([^()]*\)[^()]*)*)\)|\[(?P<b>[^\[\]]*)\])?\s*"
)


class ColumnError(ValueError):
    """A column that cannot be used.

    Attributes:
        what: What is wrong with it.
        hint: What would be right.
    """

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: Its name without the unit.
        kind: A metric's mean or standard error, one of `PLAIN`, `known`: what the campaign
            knows of its designs, or `realised`: a parameter as it really was.
        metric: The metric, of means and standard errors.
        unit: The unit its name gives, or None.
    """

    name: str
    kind: Literal["mean", "sem", "plain", "known", "realised"]
    metric: str = ""
    unit: str | None = None


@dataclass(frozen=True)
class Known:
    """A column that repeats what the campaign knows of its designs.

    It is there for the person who fills the table in; what it says must be so.

    Attributes:
        unit: Of its values; empty for none, None where nobody knows.
        values: By trial.
    """

    unit: str | None
    values: Mapping[int, Any]


def header(metric_units: Mapping[str, str], fidelities: Sequence[str] = ()) -> list[str]:
    """The names of all columns that a results file may have: for a file to be filled in."""
    names = ["trial", *(["fidelity"] if fidelities else [])]
    for metric, unit in metric_units.items():
        names += [with_unit(metric, unit), with_unit(f"{metric}_sem", unit)]
    return [*names, "status", "reason", "source"]


def with_unit(name: str, unit: str) -> str:
    """A column's name with its unit: `density (g/cm^3)`."""
    return f"{name} ({unit})" if unit else name


def parse_column(
    text: str,
    metric_units: Mapping[str, str],
    known_columns: Mapping[str, Known] = MappingProxyType({}),
    fidelities: Sequence[str] = (),
) -> Column:
    """Read the name of a column, such as `density (g/cm^3)` or `density_sem`.

    Args:
        text: The name.
        metric_units: The campaign's metrics and their units.
        known_columns: What it may repeat of the campaign's designs.
        fidelities: The names of the campaign's.

    Raises:
        ColumnError: There is no such column, or its unit is not one of the metric's.
    """
    for known_name, column in known_columns.items():  # whose own names may have brackets too
        written = (known_name, with_unit(known_name, column.unit or ""))
        if text.strip() in written and known_name not in metric_units:
            return Column(known_name, "known")
    match = _HEADER.fullmatch(text) if len(text) <= 200 else None
    name = match["name"] if match else text.strip()
    unit = (match["a"] or match["b"]) if match else None
    if name.lower() in PLAIN or (fidelities and name.lower() == "fidelity"):
        return Column(name.lower(), "plain")
    if name in known_columns and name not in metric_units:
        wanted = known_columns[name].unit
        if unit is not None and wanted is not None and unit.strip() != wanted:
            raise ColumnError(f"{name} is in {wanted or 'no unit'}, not in {unit.strip()}",
                              "leave the column as it was handed out")  # fmt: skip
        return Column(name, "known")
    made = name.removesuffix(REALISED)
    if made != name and made in known_columns and made not in ("name", *metric_units):
        wanted = known_columns[made].unit
        return Column(name, "realised", unit=None if unit is None else _fitting(made, unit, wanted))
    metric = name.removesuffix("_sem")
    kind: Literal["mean", "sem"] = "mean" if metric == name else "sem"
    if metric not in metric_units:
        known = [*metric_units, *(f"{m}_sem" for m in metric_units), *PLAIN]
        listed = f"the campaign's metrics are {', '.join(metric_units)}"
        raise ColumnError(f"unknown column {quoted(text)}", did_you_mean(name, known) or listed)
    if unit is not None:
        unit = _fitting(metric, unit, metric_units[metric])
    return Column(name, kind, metric, unit)


def _fitting(name: str, unit: str, wanted: str | None) -> str:
    """A unit, if what is wanted can be told in it."""
    try:
        fits = wanted is not None and units.compatible(units.check_unit(unit), wanted)
    except units.UnitError as error:
        raise ColumnError(error.what, error.hint) from error
    if not fits:
        raise ColumnError(f"{name} is in {wanted or 'no unit'}, {unit.strip()} is no unit of that",
                          f"give it in {wanted}" if wanted else "leave the unit out")  # fmt: skip
    return unit.strip()
