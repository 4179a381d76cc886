"""The crystals of trials: which text belongs to a result, its symmetry, picture and download."""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from campaigns.cif_file import parse_cif
from campaigns.errors import InputErrors
from dashboards.crystal_picture import picture, scene
from dashboards.typography import MINUS, formula_html, number, space_group_html

if TYPE_CHECKING:
    from pymatgen.core import Structure

SYMPREC = 0.1
"""Angstrom, spglib's tolerance for relaxed cells; the same that the Materials Project uses."""

_ANGLES = "\N{GREEK SMALL LETTER ALPHA}, β, \N{GREEK SMALL LETTER GAMMA}"
_WORDS = {"measured": "as measured", "relaxed": "relaxed", "designed": "as designed"}


@dataclass(frozen=True)
class Download:
    """A CIF to save.

    Attributes:
        label: What it is: relaxed, as designed, as measured.
        filename: To save it as.
        href: The text itself, as a data URI.
        size: Bytes of the URI.
    """

    label: str
    filename: str
    href: str

    @property
    def size(self) -> int:
        """Bytes on the page."""
        return len(self.href)


@dataclass(frozen=True)
class Crystal:
    """What the page shows of a crystal.

    Attributes:
        formula: Reduced formula.
        formula_html: The same with its numbers lowered.
        group: Space group in print, with its number.
        lines: Cell and volume, one fact a line.
        elements: Symbols in the order of the formula.
        picture: SVG; None where it has too many atoms for one.
        note: What is odd about it (the symmetry changed as it relaxed).
    """

    formula: str
    formula_html: Markup
    group: Markup
    lines: tuple[str, ...]
    elements: tuple[str, ...]
    picture: Markup | None
    note: str = ""
    symbols: frozenset[str] = field(default_factory=frozenset)


def designed_cif(design: Mapping[str, Any]) -> str | None:
    """The CIF of a design's crystal; None without a crystal axis."""
    for value in design.values():
        if isinstance(value, Mapping) and isinstance(value.get("cif"), str):
            return str(value["cif"])
    return None


def cifs(design: Mapping[str, Any], artifacts: Mapping[str, str]) -> dict[str, str]:
    """All CIFs of a trial by what they are, the one that its results belong to first."""
    found = {
        kind: artifacts[f"{kind}.cif"] for kind in ("measured", "relaxed")
        if f"{kind}.cif" in artifacts
    }  # fmt: skip
    designed = designed_cif(design)
    return found if designed is None else {**found, "designed": designed}


def downloads(trial: int, name: str | None, texts: Mapping[str, str]) -> list[Download]:
    """Links that carry the texts themselves: they work from a file, without network or script."""
    stem = re.sub(r"[^A-Za-z0-9]+", "", (name or "").partition(" ")[0])[:40] or "crystal"
    return [
        Download(
            _WORDS[kind],
            f"trial-{trial}-{stem}-{kind}.cif",
            f"data:chemical/x-cif;base64,{base64.b64encode(text.encode()).decode()}",
        )
        for kind, text in texts.items()
    ]


def read_crystal(texts: Mapping[str, str]) -> Crystal | None:
    """Read the first of a trial's CIFs that can be read; None where there is none.

    Args:
        texts: As `cifs` gives them.
    """
    for kind, text in texts.items():
        try:
            structure = parse_cif(text, kind)
        except InputErrors:
            continue
        symbol, group, cell = symmetry(structure)
        note = ""
        if kind == "relaxed" and "designed" in texts:
            note = _what_relaxing_did(structure, group, texts["designed"])
        return _crystal(structure, symbol, group, cell, note)
    return None


def _crystal(structure: Structure, symbol: str, group: int, cell: Structure, note: str) -> Crystal:
    composition = structure.composition
    plain = composition.reduced_formula
    lattice = cell.lattice
    angles = [number(x, 4).rstrip("0").rstrip(".") for x in lattice.angles]
    drawn = scene(cell) or scene(structure)
    per_atom = structure.volume / len(structure)
    primitive = len(structure.get_primitive_structure(tolerance=SYMPREC))
    return Crystal(
        formula=plain,
        formula_html=formula_html(plain),
        group=space_group_html(symbol) + Markup(f" ({group})") if group else Markup(""),
        lines=(
            f"a, b, c = {', '.join(number(x, 4) for x in lattice.abc)} Å",
            f"{_ANGLES} = {', '.join(angles)}°",
            f"{primitive} atom{'s' * (primitive != 1)} in the primitive cell, "
            f"{number(per_atom, 4)} Å³/atom",
        ),
        elements=tuple(e.symbol for e in composition.reduced_composition),
        picture=picture(drawn, f"Crystal structure of {plain}, {symbol}") if drawn else None,
        note=note,
        symbols=frozenset(drawn.symbols) if drawn else frozenset(),
    )


def symmetry(structure: Structure) -> tuple[str, int, Structure]:
    """Space group symbol and number, and the conventional cell; P1 where spglib finds none."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spglib's and pymatgen's remarks on tolerances
        try:
            analyzer = SpacegroupAnalyzer(structure, symprec=SYMPREC)
            return (
                analyzer.get_space_group_symbol(),
                analyzer.get_space_group_number(),
                analyzer.get_conventional_standard_structure(),
            )
        except (SymmetryUndeterminedError, ValueError, TypeError):
            return "", 0, structure


def _what_relaxing_did(relaxed: Structure, group: int, designed: str) -> str:
    """What changed between the designed crystal and the relaxed one, where it is much."""
    try:
        before = parse_cif(designed, "designed")
    except InputErrors:
        return ""
    notes = []
    was, number_before, _ = symmetry(before)
    if number_before != group and was:
        notes.append(f"designed as {was} ({number_before})")
    change = (relaxed.volume / len(relaxed)) / (before.volume / len(before)) - 1.0
    sign = "+" if change > 0 else MINUS
    notes.append(f"relaxing changed the volume by {sign}{abs(100 * change):.1f} %")
    return "; ".join(notes)
