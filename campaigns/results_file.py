"""Results from a person's file, CSV or JSON: all of them, or every mistake at once.

CSV: a header, then one row a trial. Columns are `trial`, the metrics by name (`density (g/cm^3)`
where the unit should be said), and where wanted `density_sem`, `status` (completed or failed),
`reason`, `source`, `fidelity` and `cif` (a file beside this one), and `temperature_realised (K)`
where a parameter was not quite what was asked for. A table that was handed out has
the designs' names and parameters too; they must be as they were, so that rows that were mixed up
are found.
JSON: a list of objects with the same keys, or `{"results": [...]}`; a metric may be
`{"mean": 3.2, "sem": 0.1, "unit": "g/cm^3"}`. An empty cell means not measured.
Readings that were repeated stand in one cell, `3.1; 3.3; 3.2` (in JSON a list): their mean counts,
with its standard error.

Nothing in such a file is evaluated, and no number in it is guessed at.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from campaigns import units as unit_tools
from campaigns.csv_cells import original
from campaigns.errors import InputErrors, Problem, did_you_mean, quoted
from campaigns.results_columns import REALISED, Column, Known
from campaigns.results_rows import MOST_PROBLEMS, Sheet
from campaigns.spec_fidelity import no_such_fidelity
from campaigns.statuses import FAILED
from campaigns.text_file import read_text

MOST_BYTES = 20 * 2**20
UNCHANGED = "the campaign: nothing was taken in"

Status = Literal["completed", "failed", "infeasible"]

_NOT_NUMBERS = ("nan", "n/a", "na", "none", "null", "inf", "-inf", "failed", "error", "-", "?")
_NOT_A_NUMBER = (
    "not measured: leave it empty; failed: leave it empty and put failed in column status"
)


@dataclass(frozen=True)
class Reading:
    """One metric measured of one trial, or the news that a trial failed.

    Attributes:
        trial: The trial's number.
        metric: The metric; empty for a failed trial.
        mean: The value in `unit`; None for a failed trial.
        sem: Its standard error in `unit`, or None.
        unit: The metric's unit in the campaign.
        status: Whether the trial was measured or failed.
        reason: Why it failed, where the file says so.
        row: The row of a CSV file (the header is 1), or the place in a JSON list (from 1).
        source: Where it is from, where the file says so.
        cif: The crystal that was really measured, where the file names one, as the text of a CIF.
        fidelity: At which fidelity, where the file says so; None = that of the trial.
        raw: The value and its unit as the file has them, where that is another unit.
        realised: Parameters as they really were: `value` and, where the file says it, `unit`.
        repeats: The readings of which `mean` is the mean, where it is one.
    """

    trial: int
    metric: str
    mean: float | None
    sem: float | None
    unit: str
    status: Status
    reason: str | None
    row: int
    source: str | None = None
    cif: str | None = None
    fidelity: str | None = None
    raw: tuple[float, str] | None = None
    realised: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    repeats: tuple[float, ...] = ()

    @property
    def key(self) -> str:
        """A hash of what it says, the same in whatever file, row, order or unit it is said."""
        numbers = [None if x is None else f"{x:.12g}" for x in (self.mean, self.sem)]
        said: list[Any] = [self.trial, self.metric, *numbers, self.unit, self.status, self.reason]
        said += [self.source, self.cif] + ([self.fidelity] if self.fidelity else [])
        said += [self.realised] if self.realised else []
        said += [[f"{x:.12g}" for x in self.repeats]] if self.repeats else []
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def read_results(
    path: str | Path,
    *,
    trials: Set[int],
    units: Mapping[str, str],
    known: Mapping[str, Known] | None = None,
    fidelities: Sequence[str] = (),
) -> list[Reading]:
    """Read a results file.

    Args:
        path: A CSV or JSON file.
        trials: The numbers of the campaign's trials.
        units: The campaign's metrics and their units; values are converted to these.
        known: What the file may repeat of the campaign's designs.
        fidelities: The names of the campaign's.

    Returns:
        What was measured and what failed, in the order of the file; trials whose cells are all
        empty are not in it.

    Raises:
        InputErrors: Every mistake, with row and column; nothing of the file should be taken in.
    """
    path = Path(path)
    try:
        text = read_text(path, MOST_BYTES)
    except InputErrors as error:
        other = path.suffix.lower() not in (".csv", ".json", ".txt", ".tsv")
        hint = "results come as CSV or JSON" if other else None
        problems = [Problem(p.where, p.what, p.hint or hint) for p in error.problems]
        raise InputErrors(problems, str(path), UNCHANGED) from error
    sheet = Sheet(path, units, known or {}, fidelities)
    reader = _Reader(sheet, trials)
    for row, cells in sheet.rows(text):
        reader.take(row, cells)
    reader.check_all()
    if len(sheet.problems) > MOST_PROBLEMS:
        sheet.wrong("too much is wrong: the rest was not read")
    if sheet.problems:
        raise InputErrors(sheet.problems, str(path), UNCHANGED)
    return reader.readings


def _agree(said: Any, wanted: Any) -> bool:
    """Whether a cell says what is known; of a number a spreadsheet may have cut digits off."""
    if isinstance(wanted, int | float):
        try:
            number = unit_tools.parse_number(said) if isinstance(said, str) else float(said)
        except (ValueError, TypeError):
            return False
        return math.isclose(number, wanted, rel_tol=1e-3, abs_tol=1e-12)
    words = original(said) if isinstance(said, str) else str(said)
    return " ".join(words.split()) == " ".join(str(wanted).split())


@dataclass(frozen=True)
class _Value:
    """What a row says of one metric; an empty name says that the trial failed."""

    metric: str
    mean: float | None
    sem: float | None = None
    raw: tuple[float, str] | None = None
    repeats: tuple[float, ...] = ()


def _repeats(value: Any) -> list[Any] | None:
    """The readings of a cell that has several; None of any other."""
    if isinstance(value, str) and ";" in value:
        return value.split(";")
    return value if isinstance(value, list) else None


class _Reader:
    """Turns rows into readings, and keeps in the sheet what is wrong with them."""

    def __init__(self, sheet: Sheet, trials: Set[int]) -> None:
        self.sheet, self.trials = sheet, trials
        self.readings: list[Reading] = []
        self._first_row: dict[tuple[int, str], int] = {}
        self._crystals: dict[str, str | None] = {}

    def take(self, row: int, cells: list[tuple[Column, Any]]) -> None:
        """Take in one row."""
        before = len(self.sheet.problems)
        plain = {c.name: v for c, v in cells if c.kind == "plain" and v is not None}
        measured = any(c.kind in ("mean", "sem") and v is not None for c, v in cells)
        trial = self._trial(plain.get("trial"), row)
        if trial is not None:
            for column, value in cells:
                if column.kind == "known" and value is not None:
                    self._compare(trial, column.name, value, row)
        status = self._status(plain, measured, row)
        reason, source = (self._text(plain.get(name), name, row) for name in ("reason", "source"))
        cif = self._cif(plain.get("cif"), row)
        fidelity = self._fidelity(plain.get("fidelity"), row)
        realised = {} if trial is None else self._realised(cells, row)
        values = self._values(cells, row)
        if status in FAILED:
            values = [_Value("", None)]
        elif realised and not values:
            what = "a parameter as realised, but no value of a metric"
            self.sheet.wrong(what, "one row says both", row=row)
        if trial is None or status is None:
            return
        for value in values:
            first = self._first_row.setdefault((trial, value.metric), row)
            if first != row:
                what = f"trial {trial} has {value.metric or 'the status failed'} twice"
                self.sheet.wrong(what, f"the first is in row {first}", row=row)
        if len(self.sheet.problems) == before:
            self.readings += [
                Reading(
                    trial, value.metric, value.mean, value.sem,
                    self.sheet.units.get(value.metric, ""), status, reason, row, source, cif,
                    fidelity, value.raw, realised, value.repeats,
                )
                for value in values
            ]  # fmt: skip

    def check_all(self) -> None:
        """Check what only all rows together can show."""
        measured = {trial: row for (trial, metric), row in self._first_row.items() if metric}
        for (trial, metric), row in self._first_row.items():
            if metric == "" and trial in measured:
                what = f"trial {trial} failed, and yet it has values in row {measured[trial]}"
                self.sheet.wrong(what, "keep one of the two", row=row)
        if not self.sheet.problems and not self.readings:
            hint = "one row a trial, with a value of a metric or the status failed"
            self.sheet.wrong("the file holds no results", hint)

    def _realised(self, cells: list[tuple[Column, Any]], row: int) -> dict[str, dict[str, Any]]:
        """Parameters as they really were; whether they can have been so, the campaign knows."""
        found: dict[str, dict[str, Any]] = {}
        for column, value in cells:
            if column.kind != "realised" or value is None:
                continue
            name = column.name.removesuffix(REALISED)
            words = any(isinstance(v, str) for v in self.sheet.known[name].values.values())
            told = original(value) if words and isinstance(value, str) else value
            if not words:
                told = self._number(value, column, "", row, lambda number, *_: number)
            if told is not None:
                found[name] = {"value": told} | ({"unit": column.unit} if column.unit else {})
        return found

    def _values(self, cells: list[tuple[Column, Any]], row: int) -> list[_Value]:
        """What a row says of the metrics, in the campaign's units."""
        means = {c.metric: (c, v) for c, v in cells if c.kind == "mean" and v is not None}
        sems = {c.metric: (c, v) for c, v in cells if c.kind == "sem" and v is not None}
        values: list[_Value] = []
        for metric, (column, value) in means.items():
            unit = unit_of_mean = column.unit or self.sheet.units[metric]
            if (several := _repeats(value)) is not None:
                values += self._mean_of(several, metric, column, row)
                if metric in sems:
                    what = "a standard error beside repeated readings, which have one of their own"
                    self.sheet.wrong(what, "empty it", row=row, column=sems[metric][0].name)
                continue
            mean = self._number(value, column, unit, row, unit_tools.convert)
            sem = None
            if metric in sems:
                column, value = sems[metric]
                unit = column.unit or unit
                sem = self._number(value, column, unit, row, unit_tools.convert_spread)
                if sem is not None and sem < 0:
                    what = "a standard error cannot be negative"
                    self.sheet.wrong(what, row=row, column=column.name)
            raw = None
            if mean is not None and unit_of_mean != self.sheet.units[metric]:
                raw = (unit_tools.parse_number(str(value)), unit_of_mean)
            values.append(_Value(metric, mean, sem, raw))
        for metric in sems.keys() - means.keys():
            what = f"a standard error, but no value of {metric}"
            self.sheet.wrong(what, row=row, column=f"{metric}_sem")
        return values

    def _mean_of(self, several: list[Any], metric: str, column: Column, row: int) -> list[_Value]:
        """The mean of repeated readings and its standard error; nothing where one is wrong."""
        unit = column.unit or self.sheet.units[metric]
        if len(several) < 2 or any(isinstance(v, str) and not v.strip() for v in several):
            what = "a list of readings has two or more, and none is missing"
            self.sheet.wrong(what, "as 3.1; 3.3", row=row, column=column.name)
            return []
        found = [self._number(v, column, unit, row, unit_tools.convert) for v in several]
        numbers = [number for number in found if number is not None]
        if len(numbers) < len(several):
            return []
        try:
            mean = statistics.fmean(numbers)
            sem = statistics.stdev(numbers) / math.sqrt(len(numbers))
        except OverflowError:
            what = "the readings are too large for a mean"
            self.sheet.wrong(what, row=row, column=column.name)
            return []
        # as rounded as they are, readings that agree to the last digit are not without error
        raw = None
        if unit != self.sheet.units[metric]:
            raw = (statistics.fmean(unit_tools.parse_number(str(v)) for v in several), unit)
        return [_Value(metric, mean, sem or None, raw, tuple(numbers))]

    def _number(
        self,
        value: Any,
        column: Column,
        unit: str,
        row: int,
        convert: Callable[[float, str, str], float],
    ) -> float | None:
        """A cell's number in the campaign's unit of its metric; None where it is none."""
        wanted = self.sheet.units.get(column.metric, "")
        hint = None
        try:
            if isinstance(value, str):
                if value.strip().lower() in _NOT_NUMBERS:
                    hint = _NOT_A_NUMBER
                elif value[:1].isdigit() and any(c.isalpha() for c in value):
                    hint = f"the unit stands in the column's name: {column.name} ({wanted or 'K'})"
                number = unit_tools.parse_number(value)
            elif isinstance(value, int | float) and not isinstance(value, bool):
                number = float(value)
            else:
                raise ValueError(f"{quoted(value)} is not a number")
            # By way of text, since what a conversion gives must be finite as well.
            return unit_tools.parse_number(repr(float(convert(number, unit, wanted))))
        except unit_tools.UnitError as error:
            self.sheet.wrong(error.what, error.hint, row=row, column=column.name)
        except (ValueError, OverflowError) as error:
            self.sheet.wrong(str(error), hint, row=row, column=column.name)
        return None

    def _compare(self, trial: int, name: str, value: Any, row: int) -> None:
        """Check what the file repeats of a trial's design."""
        wanted = self.sheet.known[name].values.get(trial, value)
        if _agree(value, wanted):
            return
        hint = "are the rows mixed up? what was really made goes into a column " + name + REALISED
        shown = f"{wanted:.7g}" if isinstance(wanted, float) else quoted(wanted)
        what = f"trial {trial} has {name} {shown}, the file says {quoted(value)}"
        self.sheet.wrong(what, hint, row=row, column=name)

    def _trial(self, value: Any, row: int) -> int | None:
        if value is None:
            self.sheet.wrong("the trial's number is missing", row=row, column="trial")
            return None
        try:
            number = unit_tools.parse_number(value) if isinstance(value, str) else float(value)
        except (ValueError, TypeError, OverflowError):
            number = -1.0
        if isinstance(value, bool) or not 0 <= number <= 2**53 or number % 1:
            what = f"{quoted(value)} is not the number of a trial"
            self.sheet.wrong(what, row=row, column="trial")
            return None
        if int(number) not in self.trials:
            first_last = f"it has {min(self.trials)} to {max(self.trials)}" if self.trials else None
            what = f"the campaign has no trial {int(number)}"
            self.sheet.wrong(what, first_last or "it has none yet", row=row, column="trial")
            return None
        return int(number)

    def _status(self, plain: Mapping[str, Any], measured: bool, row: int) -> Status | None:
        given = plain.get("status")
        status = str(given).strip().lower() if given is not None else "completed"
        if status in FAILED:
            if measured:
                hint = "empty the values, or say completed"
                what = "the trial failed, and yet it has values"
                self.sheet.wrong(what, hint, row=row, column="status")
            return "failed" if status == "failed" else "infeasible"
        if status != "completed":
            what = f"{quoted(given)} is not the status of a result"
            hints = did_you_mean(status, ("completed", "failed", "infeasible"))
            self.sheet.wrong(what, hints, row=row, column="status")
            return None
        if given is not None and not measured:
            what = "the trial is completed, and yet it has no value"
            self.sheet.wrong(what, row=row, column="status")
        if plain.get("reason") is not None:
            hint = "put failed in column status, or remove the reason"
            what = "a reason for a trial that did not fail"
            self.sheet.wrong(what, hint, row=row, column="reason")
        return "completed"

    def _text(self, value: Any, name: str, row: int) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str) or len(value) > 2000:
            self.sheet.wrong("text of up to 2,000 characters was wanted", row=row, column=name)
            return None
        text = " ".join(value.split())
        if not text.isprintable():  # as what would steer the terminal that shows it
            what = f"{quoted(text)} has characters that cannot be shown"
            self.sheet.wrong(what, row=row, column=name)
        return text or None

    def _fidelity(self, value: Any, row: int) -> str | None:
        if value is None:
            return None
        name = " ".join(str(value).split())
        if name not in self.sheet.fidelities:
            what, hint = no_such_fidelity(name, self.sheet.fidelities)
            self.sheet.wrong(what, hint, row=row, column="fidelity")
            return None
        return name

    def _cif(self, value: Any, row: int) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            self.sheet.wrong(f"{quoted(value)} is not the path of a file", row=row, column="cif")
            return None
        if value not in self._crystals:
            self._crystals[value] = self._read_cif(value, row)
        return self._crystals[value]

    def _read_cif(self, value: str, row: int) -> str | None:
        from campaigns.cif_file import MOST_BYTES as MOST_CIF_BYTES
        from campaigns.cif_file import parse_cif

        folder = self.sheet.path.absolute().parent.resolve()
        try:
            file = (folder / value.strip()).resolve()
            inside = file.is_relative_to(folder)
        except (OSError, ValueError, RuntimeError):
            inside = False
        if not inside:
            hint = "a path as seen from this file, and not out of its folder"
            what = f"{quoted(value)} is not a file beside this one"
            self.sheet.wrong(what, hint, row=row, column="cif")
            return None
        try:
            text = read_text(file, MOST_CIF_BYTES)
            parse_cif(text, str(file))
        except InputErrors as error:
            for problem in error.problems:
                what = f"{quoted(value)}: {problem.what}"
                self.sheet.wrong(what, problem.hint, row=row, column="cif")
            return None
        return text
