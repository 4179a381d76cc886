"""Which column of a finished table holds what: names matched with tolerance, units read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from campaigns import units
from campaigns.errors import Problem, did_you_mean, quoted

_HEADER = re.compile(r"\s*(?P<name>.*?)\s*[(\[](?P<unit>.*)[)\]]\s*", re.DOTALL)


def plain_name(text: str) -> str:
    """A name as it is compared: `Print Speed` and `print_speed` are one."""
    return re.sub(r"[\W_]+", "_", text.casefold()).strip("_")


@dataclass(frozen=True)
class Header:
    """The name of a column.

    Attributes:
        index: where it stands.
        text: as the file has it.
        name: without the unit.
        unit: what stands in brackets behind the name, a unit or not; None without brackets.
    """

    index: int
    text: str
    name: str
    unit: str | None

    @classmethod
    def read(cls, index: int, text: str) -> Header:
        """The header in a cell."""
        match = _HEADER.fullmatch(text)
        if match is None:
            return cls(index, text.strip(), text.strip(), None)
        return cls(index, text.strip(), match["name"], match["unit"].strip())


@dataclass(frozen=True)
class Numbers:
    """A column of numbers and how to have them in the spec's unit.

    Attributes:
        header: the column.
        unit: the unit it is in.
        wanted: the unit of the spec.
        spread: whether it holds differences (standard errors), which have no zero point.
    """

    header: Header
    unit: str
    wanted: str
    spread: bool = False

    def read(self, cell: str) -> float:
        """A cell's number in the wanted unit. Raises `ValueError` or `UnitError`."""
        value = units.parse_number(cell)
        change = units.convert_spread if self.spread else units.convert
        return change(value, self.unit, self.wanted)


class Columns:
    """The header of a table, from which columns are taken one after the other.

    Args:
        cells: the header's cells.
        where: the file, for problems.
    """

    def __init__(self, cells: Sequence[str], where: str) -> None:
        self._headers = [Header.read(i, cell) for i, cell in enumerate(cells) if cell.strip()]
        self._where = where
        self._taken: set[int] = set()
        self.problems: list[Problem] = []

    @property
    def ignored(self) -> list[str]:
        """Columns that nobody took."""
        return [h.text for h in self._headers if h.index not in self._taken]

    def find(self, *names: str, needed: bool = True) -> Header | None:
        """The column of the first of these names that there is, and a problem where there is none.

        The very name comes before one that differs in case, spaces or underscores, and a name with
        brackets is compared with them and without.
        """
        for name in names:
            for match in (
                lambda h, n=name: n in (h.text, h.name),
                lambda h, n=name: plain_name(n) in (plain_name(h.text), plain_name(h.name)),
            ):
                found = [h for h in self._headers if match(h) and h.index not in self._taken]
                if len(found) > 1:
                    both = " and ".join(quoted(h.text) for h in found[:2])
                    self._wrong(f"two columns are {names[0]}: {both}", "rename or remove one")
                if found:
                    self._taken.add(found[0].index)
                    return found[0]
        if needed:
            hint = did_you_mean(names[0], [h.name for h in self._headers])
            self._wrong(f"there is no column {names[0]}", hint)
        return None

    def numbers(
        self, *names: str, unit: str, needed: bool = True, spread: bool = False
    ) -> Numbers | None:
        """The column of numbers of the first of these names, to be read in `unit`."""
        header = self.find(*names, needed=needed)
        if header is None:
            return None
        given = header.unit
        if given is None or plain_name(header.text) in map(plain_name, names):
            return Numbers(header, unit, unit, spread)
        try:
            if not units.compatible(units.check_unit(given), unit):
                self._wrong(f"{names[0]} is in {unit}, {quoted(given)} is no unit of that",
                            f"column {header.text}")  # fmt: skip
                return None
        except units.UnitError as error:
            self._wrong(f"column {quoted(header.text)}: {error.what}", error.hint)
            return None
        return Numbers(header, given, unit, spread)

    def _wrong(self, what: str, hint: str | None = None) -> None:
        self.problems.append(Problem(f"{self._where}, row 1", what, hint))
