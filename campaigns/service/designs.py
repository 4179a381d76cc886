"""Designs from outside: within the bounds, of allowed elements, and such as the space can have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from campaigns.errors import InputErrors, Problem, did_you_mean
from campaigns.spec_axes import CompositionAxis, LatentAxis, PoolAxis

if TYPE_CHECKING:
    from campaigns.spec import Spec

UNCHANGED = "the campaign: the design was not added"


def checked(spec: Spec, given: Mapping[str, Any], flat: bool) -> dict[str, Any]:
    """A design as the store keeps it, checked against space, constraints and screen.

    Args:
        spec: The campaign's.
        given: The design as JSON, or its flat parameters (`alloy.Fe`).
        flat: Whether it is those.

    Returns:
        ``design``, and ``name`` for people.

    Raises:
        InputErrors: It is not of the space, or breaks a rule; all that can be told is.
        MatloopError: A pool or a table of descriptors cannot be read.
    """
    design = nested(spec, given) if flat else dict(given)
    problems = [
        Problem(f"design.{name}", "the campaign has no such axis", did_you_mean(name, spec.space))
        for name in design
        if name not in spec.space
    ]
    problems += [
        Problem(f"design.{name}", "it is missing") for name in spec.space if name not in design
    ]
    if problems:
        raise InputErrors(problems, "the design", UNCHANGED)
    crystals = {name for name, axis in spec.space.items() if isinstance(axis, LatentAxis)}
    kept: dict[str, Any] = {}
    names = []
    for name in crystals:
        kept[name], told = _crystal(spec, name, design[name])
        names.append(told)
    if len(crystals) < len(spec.space):
        plain, told = _plain(spec, {n: v for n, v in design.items() if n not in crystals})
        kept |= plain
        names.append(told)
    return {"design": {name: kept[name] for name in spec.space}, "name": ", ".join(names)}


def nested(spec: Spec, params: Mapping[str, Any]) -> dict[str, Any]:
    """A design as JSON, from its flat parameters."""
    design: dict[str, Any] = {}
    for name, value in params.items():
        axis, _, part = name.partition(".")
        if part and isinstance(spec.space.get(axis), CompositionAxis | PoolAxis):
            design.setdefault(axis, {})[part] = value
        else:
            design[name] = value
    for name, value in design.items():
        axis_ = spec.space.get(name)
        if isinstance(axis_, CompositionAxis) and isinstance(value, dict):
            # an ingredient that is not named is not in it
            design[name] = {part: value.get(part, 0.0) for part in axis_.composition} | value
    return design


def _plain(spec: Spec, design: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The part of a design that is no crystal."""
    import numpy as np

    from campaigns.spec_space import Sums, design_space, undescribed_axis

    held, _ = spec._constrained()
    axes = {n: undescribed_axis(a) for n, a in held.axes.items() if n in design}
    space = design_space(Sums(axes, held.sums))
    try:
        read = space.from_json(design)
        codes = space.encode([read])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputErrors([Problem("design", why)], "the design", UNCHANGED) from error
    if not np.isfinite(codes).all() or not bool(space.allowed(codes)[0]) or _outside(axes, read):
        told = ", ".join([*map(str, space.constraints), *_outside(axes, read)])
        what = "it is outside the bounds" + (f" or constraints: {told}" if told else "")
        raise InputErrors([Problem("design", what)], "the design", UNCHANGED)
    from campaigns.strict import plain

    return plain(space.to_json(read)), space.describe(read)


def _outside(axes: Mapping[str, Any], read: Mapping[str, Any]) -> list[str]:
    """Ranges that a value lies outside of: a code is clipped, so that it would not show."""
    found = []
    for name, axis in axes.items():
        bounds = getattr(axis, "range", None)
        if bounds is not None and not bounds[0] <= read[name] <= bounds[1]:
            found.append(f"{bounds[0]:g} <= {name} <= {bounds[1]:g}")
        if getattr(axis, "fixed", None) not in (None, read[name]):
            found.append(f"{name} == {axis.fixed}")
        if isinstance(axis, CompositionAxis):
            for part, (low, high) in axis.bounds.items():
                if not low - 1e-9 <= read[name].get(part, 0.0) <= high + 1e-9:
                    found.append(f"{low:g} <= {name}.{part} <= {high:g}")
    return found


def _crystal(spec: Spec, name: str, value: Any) -> tuple[dict[str, Any], str]:
    """A crystal that may be made, as the store keeps it, and its name."""
    from pymatgen.io.cif import CifWriter

    from campaigns.cif_file import parse_cif
    from campaigns.service.reading import SITES
    from loop.problem import ScreenRules
    from loop.screening import check_crystal

    where = f"design.{name}"
    cif = value.get("cif") if isinstance(value, dict) else None
    if not isinstance(cif, str) or len(cif) > 2**20:
        what = "a crystal is an object with the text of a CIF under `cif`, of 1 MiB at most"
        raise InputErrors([Problem(where, what)], "the design", UNCHANGED)
    crystal = parse_cif(cif, where, SITES)
    elements = spec.screen.elements
    refusal = check_crystal(
        crystal,
        ScreenRules(
            include=elements.include,
            exclude=elements.exclude,
            charge_neutral=spec.screen.charge_neutral,
            max_atoms=spec.screen.max_atoms,
        ),
    )
    if refusal is not None:
        what = f"the screen refuses it: {refusal.rule}, {refusal.detail}"
        raise InputErrors([Problem(where, what)], "the design", UNCHANGED)
    written = str(CifWriter(crystal, significant_figures=12))
    return {"cif": written}, f"{crystal.composition.reduced_formula} ({len(crystal)} atoms)"
