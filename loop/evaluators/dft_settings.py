"""How precise a DFT calculation is: three presets, and each number that may be set beside them.

The plane-wave cut-offs are for cells that change: energies of an equation of state are compared at
one cut-off, not one basis, so the basis must be all but complete. Below about 600 eV the stress of
an oxide is wrong by tens of GPa (Francis and Payne, J. Phys.: Condens. Matter 2, 4395 (1990)).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loop.evaluators.base import EvaluatorError
from loop.evaluators.measuring import Settings

CODES = ("gpaw", "espresso")
SPIN = ("auto", "on", "off")
GAP_FROM = ("grid", "path")
LOWEST_CUTOFF = 600.0


@dataclass(frozen=True)
class Accuracy:
    """What decides an energy; two energies of different accuracy cannot be compared.

    Attributes:
        cutoff: of plane waves, eV.
        kpoint_density: k-points a reciprocal angstrom (angstrom, as a length): the grid along a
            reciprocal vector b (with 2 pi) has at least `kpoint_density * |b|` points, an even
            number, and holds Gamma.
        smearing: width of the Fermi-Dirac occupations, eV; energies are extrapolated to none.
        convergence: largest change of the energy in the last iterations, eV a valence electron.
        spin: `auto` (on where an element is usually magnetic, begun ferromagnetic), `on`, `off`.
    """

    cutoff: float
    kpoint_density: float
    smearing: float
    convergence: float
    spin: str = "auto"

    def __post_init__(self) -> None:
        for name, low, high in (
            ("cutoff", 100.0, 3000.0),
            ("kpoint_density", 0.3, 20.0),
            ("smearing", 1e-3, 1.0),
            ("convergence", 1e-8, 1e-2),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise EvaluatorError(f"{name} is {value!r}, not a number", f"{low:g} to {high:g}")
            if not low <= value <= high:
                what = f"it must lie between {low:g} and {high:g}"
                raise EvaluatorError(f"{name} is {value:g}", what)
        if self.spin not in SPIN:
            raise EvaluatorError(f"spin is {self.spin!r}", f"one of {', '.join(SPIN)}")

    def digest(self, **also: Any) -> str:
        """Sixteen characters that name this accuracy, and whatever else decides an energy."""
        told = json.dumps(dataclasses.asdict(self) | also, sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]


PRESETS: dict[str, tuple[Accuracy, dict[str, Any]]] = {
    "fast": (
        Accuracy(600.0, 2.0, 0.1, 1e-4),
        {"fmax": 0.05, "max_steps": 60, "eos_points": 5, "eos_strain": 0.04, "max_atoms": 20},
    ),
    "standard": (
        Accuracy(700.0, 3.5, 0.1, 1e-5),
        {"fmax": 0.03, "max_steps": 100, "eos_points": 7, "eos_strain": 0.05, "max_atoms": 40},
    ),
    "accurate": (
        Accuracy(900.0, 5.0, 0.05, 1e-6),
        {"fmax": 0.01, "max_steps": 200, "eos_points": 9, "eos_strain": 0.05, "max_atoms": 60},
    ),
}


@dataclass(frozen=True)
class Recipe:
    """Everything that a DFT evaluator was told.

    Attributes:
        code: one of `CODES`.
        preset: one of `PRESETS`.
        accuracy: the preset's, with what was set beside it.
        settings: likewise, of relaxation and equation of state.
        prerelax: model of the potential that relaxes the crystal first; None = none does.
        gap_from: one of `GAP_FROM`.
    """

    code: str
    preset: str
    accuracy: Accuracy
    settings: Settings
    prerelax: str | None
    gap_from: str

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Recipe:
        """Read a configuration.

        Raises:
            EvaluatorError: On a code, preset or number that cannot be.
        """
        code = config.get("code", "gpaw")
        if code not in CODES:
            raise EvaluatorError(f"there is no code {code!r}", f"one of {', '.join(CODES)}")
        preset = config.get("preset", "standard")
        if preset not in PRESETS:
            raise EvaluatorError(f"there is no preset {preset!r}", f"one of {', '.join(PRESETS)}")
        accuracy, settings = PRESETS[preset]
        names = {field.name for field in dataclasses.fields(Accuracy)}
        accuracy = dataclasses.replace(
            accuracy, **{name: config[name] for name in names & set(config)}
        )
        more = {field.name for field in dataclasses.fields(Settings)} & set(config)
        symmetry = {"keep_symmetry": config.get("crystal") is not None}
        gap_from = config.get("gap_from", "grid")
        if gap_from not in GAP_FROM:
            raise EvaluatorError(f"gap_from is {gap_from!r}", f"one of {', '.join(GAP_FROM)}")
        prerelax = config.get("prerelax", "chgnet")
        return cls(
            code,
            preset,
            accuracy,
            Settings(**(settings | {name: config[name] for name in more} | symmetry)),
            None if prerelax in (None, "none") else str(prerelax),
            gap_from,
        )

    @classmethod
    def keys(cls) -> frozenset[str]:
        """What a configuration may hold."""
        of_both = [*dataclasses.fields(Accuracy), *dataclasses.fields(Settings)]
        names = {field.name for field in of_both} | {"code", "preset", "prerelax", "gap_from"}
        return frozenset(names - {"phonon_length", "keep_symmetry"})
