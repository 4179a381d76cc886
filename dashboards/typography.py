"""Numbers, units and chemistry as people print them. Everything here is safe to put into HTML."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from markupsafe import Markup, escape

MINUS, TIMES, NOTHING = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}", "\N{EN DASH}"

_PLUS_MINUS = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"
_SUPERSCRIPT = str.maketrans("0123456789+-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻")
_SUBSCRIPT = str.maketrans("0123456789.", "₀₁₂₃₄₅₆₇₈₉.")
_UNITS = {
    "angstrom": "Å",
    "degC": "°C",
    "percent": "%",
    "dimensionless": "",
    "ohm": "Ω",
    "micrometer": "µm",
}
_FORMULA = re.compile(r"(?:[A-Z][a-z]?|[()\[\]])(?:\d+(?:\.\d+)?)?")


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits, a true minus, and powers of ten written out."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    if -4 <= power < 6:
        text = f"{value:.{max(0, digits - 1 - power)}f}"
    else:
        text = f"{mantissa}{TIMES}10{str(power).translate(_SUPERSCRIPT)}"
    return text.replace("-", MINUS)


def short(value: float) -> str:
    """A number for the tick of an axis or a sentence: as few digits as it needs, at most four."""
    mantissa, times, power = number(value).partition(TIMES)
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return mantissa + times + power


def with_error(mean: float, sem: float | None) -> str:
    """A mean with its standard error, rounded to the error's second digit: `213.4 ± 1.2`."""
    if sem is None or not math.isfinite(sem) or not math.isfinite(mean):
        return number(mean)
    if sem == 0:
        return f"{number(mean)}{_PLUS_MINUS}0"
    places = 1 - math.floor(math.log10(sem))
    if not -6 < places < 9:
        return f"{number(mean)}{_PLUS_MINUS}{number(sem, 2)}"
    shown = (f"{round(x, places):.{max(0, places)}f}" for x in (mean, sem))
    return _PLUS_MINUS.join(shown).replace("-", MINUS)


def unit(text: str) -> str:
    """A unit in print: `g/cm^3` is g/cm³, `angstrom` is Å, `dimensionless` is nothing."""
    raised = re.sub(
        r"\s*(?:\*\*|\^)\s*([+-]?\d+)", lambda m: m[1].lstrip("+").translate(_SUPERSCRIPT), text
    )
    named = re.sub(r"[A-Za-z]+", lambda m: _UNITS.get(m[0], m[0]), raised)
    return re.sub(r"\s*\*\s*", "·", named)


def product(units: Iterable[str]) -> str:
    """The unit of a product in print, as of a hypervolume: `GPa·W`; empty without any."""
    return "·".join(found for of in units if (found := unit(of)))


def quantity(value: float | None, of: str, sem: float | None = None) -> str:
    """A number with its unit, by a space that does not break."""
    text = number(value) if value is None else with_error(value, sem)
    return f"{text}\N{NO-BREAK SPACE}{unit(of)}".rstrip("\N{NO-BREAK SPACE}")


def name(metric: str) -> str:
    """A metric or an axis as words."""
    return metric.replace("_", " ")


def label(metric: str, of: str) -> str:
    """A metric with its unit in brackets, for an axis or a column."""
    shown = unit(of)
    return f"{name(metric)} ({shown})" if shown else name(metric)


def formula(text: str) -> str:
    """A formula with its numbers lowered, as plain text: `Al2O3` is Al₂O₃."""
    return text.translate(_SUBSCRIPT)


def formula_html(text: str) -> Markup:
    """A formula with its numbers lowered, as HTML."""
    return Markup(re.sub(r"(\d+(?:\.\d+)?)", r"<sub>\1</sub>", str(escape(text))))


def space_group_html(symbol: str) -> Markup:
    """A Hermann-Mauguin symbol in print: `Fm-3m` with a bar over the 3, `P6_3/mmc` lowered."""
    text = str(escape(symbol))
    text = re.sub(r"-(\d)", r'<span class="bar">\1</span>', text)
    text = re.sub(r"_(\d)", r"<sub>\1</sub>", text)
    return Markup(f"<i>{text}</i>")


def design_name(text: str | None) -> str:
    """A design's short name; where it begins with a formula, with its numbers lowered."""
    head, tail = _formula_first(text)
    tail = re.sub(r"_(\d)", lambda m: m[1].translate(_SUBSCRIPT), tail) if head else tail
    return (formula(head) + tail) or "unnamed design"


def design_name_html(text: str | None) -> Markup:
    """The same as HTML: the formula, and below it the space group as it is printed."""
    head, tail = _formula_first(text)
    group = re.match(r" \(([A-Z][-_/A-Za-z0-9]*), (\d+ atoms?)\)", tail) if head else None
    if group is None:
        return formula_html(head) + (tail or ("" if head else "unnamed design"))
    below = Markup("<br><small>") + space_group_html(group[1]) + ", " + group[2]
    return formula_html(head) + below + tail[group.end() :] + Markup("</small>")


def _formula_first(text: str | None) -> tuple[str, str]:
    """A name's formula, where it begins with one, and the rest."""
    head, space, tail = (text or "").partition(" ")
    is_formula = "".join(_FORMULA.findall(head)) == head and tail.startswith("(")
    return (head, space + tail) if is_formula else ("", text or "")


def share(part: int, whole: int) -> str:
    """A share as people say it: `33 of 40 (82 %)`."""
    if not whole:
        return "0 of 0"
    return f"{part} of {whole} ({percent(part / whole)})"


def percent(value: float) -> str:
    """A share in percent: never 100 % or 0 % unless it is."""
    shown = 100.0 * value
    places = 1 if 99.0 < shown < 100.0 or 0.0 < shown < 1.0 else 0
    return f"{shown:.{places}f}\N{NO-BREAK SPACE}%"


def listed(words: list[str], last: str = "and") -> str:
    """Words as a list in a sentence: `a, b and c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """A count with its noun: `1 trial`, `2 trials`."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def duration(seconds: float) -> str:
    """A time span in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
