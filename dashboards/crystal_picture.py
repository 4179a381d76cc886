"""A crystal as a small inline SVG: its conventional cell, atoms and bonds, nearest last.

The picture needs no script; the page's script turns it, from the numbers in `data-crystal`, with
the same projection.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup, escape

if TYPE_CHECKING:
    from pymatgen.core import Structure

SIZE = 200.0  # of the picture's square, in its own units
TURN, TILT = 0.42, 0.24  # radians: how far the cell is turned and tilted for the reader
EYE = 6.0  # distance of the eye, in radii of the whole: a little perspective
MOST_ATOMS = 240
_EDGE = 1e-2  # fraction of the cell: an atom so close to a face is drawn on the opposite face too
_BALL = (0.22, 0.26)  # Angstrom, and share of the covalent radius: hydrogen is to be seen too
_FAR = 1.3  # bonds are shorter than so many sums of covalent radii
_NEAR = 1.2  # and than so many distances to the nearest neighbour, of both atoms


@dataclass(frozen=True)
class Scene:
    """What is drawn, in Angstrom, its middle at the origin.

    Attributes:
        cell: `3 x 3`, rows are the lattice vectors.
        symbols: Of `k` atoms.
        xyz: Their positions, `k x 3`.
        radii: Of their balls, `k`.
        bonds: Pairs of atoms.
    """

    cell: np.ndarray
    symbols: tuple[str, ...]
    xyz: np.ndarray
    radii: np.ndarray
    bonds: tuple[tuple[int, int], ...]

    @property
    def reach(self) -> float:
        """Radius of a sphere around everything."""
        corners = np.array(list(itertools.product((-0.5, 0.5), repeat=3))) @ self.cell
        atoms = np.linalg.norm(self.xyz, axis=1) + self.radii
        return float(max(np.linalg.norm(corners, axis=1).max(), atoms.max(initial=0.0)))


@cache
def _elements() -> dict[str, tuple[str, float]]:
    """Jmol's colour and the covalent radius (Angstrom) of each element's symbol."""
    from ase.data import chemical_symbols, covalent_radii
    from ase.data.colors import jmol_colors

    return {
        symbol: ("#" + "".join(f"{round(255 * c):02x}" for c in colour), float(radius))
        for symbol, colour, radius in zip(
            chemical_symbols, jmol_colors, covalent_radii, strict=False
        )
    }


def colour(symbol: str) -> str:
    """The colour of an element in Jmol; grey for what is none."""
    return _elements().get(symbol, ("#b0b0b0", 1.2))[0]


def scene(structure: Structure) -> Scene | None:
    """Choose what to draw of a crystal: a cell, with the atoms on its faces on all of them.

    Returns:
        None for a crystal of too many atoms for a small picture.
    """
    symbols: list[str] = []
    places: list[np.ndarray] = []
    if len(structure) > MOST_ATOMS:
        return None
    for site in structure:
        inside = np.mod(site.frac_coords, 1.0)
        inside[inside > 1.0 - _EDGE] -= 1.0
        on_face = [(0, 1) if abs(x) < _EDGE else (0,) for x in inside]
        for shift in itertools.product(*on_face):
            symbols.append(site.specie.symbol)
            places.append(inside + shift)
    if len(symbols) > MOST_ATOMS:
        return None
    cell = np.asarray(structure.lattice.matrix)
    xyz = (np.array(places) - 0.5) @ cell
    covalent = np.array([_elements().get(s, ("", 1.2))[1] for s in symbols])
    return Scene(cell, tuple(symbols), xyz, _BALL[0] + _BALL[1] * covalent, _bonds(xyz, covalent))


def _bonds(xyz: np.ndarray, covalent: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Pairs that are about as close as either atom has a neighbour, and as a bond may be long."""
    if len(xyz) < 2:
        return ()
    distance = np.linalg.norm(xyz[:, None] - xyz[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    nearest = distance.min(axis=1)
    near = distance <= _NEAR * np.minimum(nearest[:, None], nearest[None])
    short = distance <= _FAR * (covalent[:, None] + covalent[None])
    return tuple((int(i), int(j)) for i, j in np.argwhere(np.triu(near & short)))


def view(turn: float = TURN, tilt: float = TILT) -> np.ndarray:
    """The rotation (`3 x 3`) to the eye: x to the right, y up, z towards the reader.

    The vertical axis of the crystal is c; `turn` goes around it, `tilt` lifts the eye.
    """
    ct, st, cp, sp = math.cos(turn), math.sin(turn), math.cos(tilt), math.sin(tilt)
    around = np.array([[-st, ct, 0.0], [0.0, 0.0, 1.0], [ct, st, 0.0]])
    lift = np.array([[1.0, 0.0, 0.0], [0.0, cp, -sp], [0.0, sp, cp]])
    return lift @ around


def picture(drawn: Scene, title: str) -> Markup:
    """The SVG of a scene.

    Args:
        drawn: What to draw.
        title: For who does not see it, and as a tooltip.
    """
    reach, rotation = drawn.reach, view()
    shapes: list[tuple[float, str]] = []

    def place(point: np.ndarray) -> tuple[float, float, float, float]:
        x, y, z = rotation @ point
        scale = 0.47 * SIZE / reach * EYE / (EYE - z / reach)
        return SIZE / 2 + x * scale, SIZE / 2 - y * scale, z, scale

    def stroke(a: np.ndarray, b: np.ndarray, css: str, nudge: float = 0.0) -> None:
        (ax, ay, az, _), (bx, by, bz, _) = place(a), place(b)
        line = f'<path class="{css}" d="M{ax:.1f} {ay:.1f}L{bx:.1f} {by:.1f}"/>'
        shapes.append(((az + bz) / 2 + nudge, line))

    for start, end in _edges(drawn.cell):
        # in pieces, so that an edge can pass behind one atom and before the next
        for k in range(3):
            stroke(start + (end - start) * k / 3, start + (end - start) * (k + 1) / 3, "c")
    for i, j in drawn.bonds:
        along = drawn.xyz[j] - drawn.xyz[i]
        along /= np.linalg.norm(along)
        a, b = (drawn.xyz[k] + s * 0.8 * drawn.radii[k] * along for k, s in ((i, 1), (j, -1)))
        stroke(a, b, "b")
    for symbol, point, radius in zip(drawn.symbols, drawn.xyz, drawn.radii, strict=True):
        x, y, z, scale = place(point)
        ball = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius * scale:.1f}"'
        shapes.append((z, f'<circle fill="url(#el-{escape(symbol)})" {ball}/>'))
    shapes.sort(key=lambda shape: shape[0])
    body = "".join(shape for _, shape in shapes) + _compass(drawn.cell, rotation)
    return Markup(
        f'<svg class="crystal" viewBox="0 0 {SIZE:.0f} {SIZE:.0f}" role="img" tabindex="0" '
        f'aria-label="{escape(title)}" data-crystal="{escape(_numbers(drawn))}">{body}</svg>'
    )


def _compass(cell: np.ndarray, rotation: np.ndarray) -> str:
    """The directions of a, b and c in a corner of the picture."""
    parts = []
    for letter, vector in zip("abc", cell, strict=True):
        x, y, _ = rotation @ vector / np.linalg.norm(vector)
        parts.append(
            f'<path class="x" d="M22 178L{22 + 14 * x:.1f} {178 - 14 * y:.1f}"/>'
            f'<text x="{22 + 20 * x:.1f}" y="{181 - 20 * y:.1f}">{letter}</text>'
        )
    return "".join(parts)


def _edges(cell: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The twelve edges of the cell around the origin."""
    edges = []
    for axis in range(3):
        for corner in itertools.product((-0.5, 0.5), repeat=2):
            begin = np.insert(np.array(corner), axis, -0.5)
            end = np.insert(np.array(corner), axis, 0.5)
            edges.append((begin @ cell, end @ cell))
    return edges


def _numbers(drawn: Scene) -> str:
    """The scene as compact JSON, for turning it."""
    kinds = sorted(set(drawn.symbols))
    return json.dumps(
        {
            "cell": [round(float(x), 3) for x in drawn.cell.ravel()],
            "kinds": kinds,
            "atoms": [
                [kinds.index(s), *(round(float(x), 2) for x in p), round(float(r), 2)]
                for s, p, r in zip(drawn.symbols, drawn.xyz, drawn.radii, strict=True)
            ],
            "bonds": [index for bond in drawn.bonds for index in bond],
            "reach": round(drawn.reach, 3),
        },
        separators=(",", ":"),
    )


def gradients(symbols: Iterable[str]) -> Markup:
    """The balls' shading, once a page, for all elements that its pictures show."""
    defs = "".join(
        f'<radialGradient id="el-{escape(s)}" cx=".36" cy=".32" r=".75">'
        f'<stop offset="0" stop-color="{_mix(colour(s), 255, 0.75)}"/>'
        f'<stop offset=".35" stop-color="{colour(s)}"/>'
        f'<stop offset="1" stop-color="{_mix(colour(s), 0, 0.55)}"/></radialGradient>'
        for s in sorted(set(symbols))
    )
    return Markup(f'<svg class="defs" aria-hidden="true"><defs>{defs}</defs></svg>')


def _mix(hexadecimal: str, other: int, share: float) -> str:
    parts = bytes.fromhex(hexadecimal[1:])
    return "#" + "".join(f"{round(p + (other - p) * share):02x}" for p in parts)
