"""Crystals as graphs in which atoms that a network cannot tell apart stand only once.

A network that reads elements and distances gives the same vector to atoms whose neighbours, and
the neighbours of those, look alike. Colour refinement finds such atoms without any symmetry search;
the network then runs on one of each kind, with multiplicities, and gives what it would give on the
whole cell ([Bollen2023]_). Of the shared crystals a quarter of the edges is left, and a supercell
has the same graph as its primitive cell.

.. [Bollen2023] J. Bollen et al., Learning graph neural networks using exact compression.
   GRADES-NDA 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pymatgen.core import Structure
from torch import Tensor

DISTANCE_STEP = 0.01  # angstrom: distances closer than this may count as one
_ROUNDS = 16


@dataclass(frozen=True)
class Graph:
    """A crystal of `n` kinds of atoms and `m` kinds of edges between them.

    Attributes:
        number: Atomic number of each kind: n.
        atoms: How many atoms of the cell are of it: n.
        source: The kind that an edge belongs to: m.
        target: The kind of the neighbour: m.
        distance: To the neighbour (angstrom): m.
        count: How many such neighbours an atom of the kind `source` has: m.
    """

    number: np.ndarray
    atoms: np.ndarray
    source: np.ndarray
    target: np.ndarray
    distance: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Graphs side by side, as tensors; `graph` and `edge_graph` say which one each belongs to."""

    number: Tensor
    atoms: Tensor
    source: Tensor
    target: Tensor
    distance: Tensor
    count: Tensor
    graph: Tensor
    edge_graph: Tensor
    size: int


def crystal_graph(structure: Structure, cutoff: float) -> Graph:
    """The graph of an ordered crystal.

    Args:
        structure: The crystal.
        cutoff: How far a neighbour may be (angstrom).
    """
    number = np.array([site.specie.Z for site in structure], dtype=np.int64)
    source, target, _, distance = structure.get_neighbor_list(cutoff)
    step = np.rint(distance / DISTANCE_STEP).astype(np.int64)
    _, first, kind = np.unique(
        _colours(number, source, target, step), return_index=True, return_inverse=True
    )
    atoms = np.bincount(kind, minlength=len(first))
    steps = int(step.max(initial=0)) + 1
    key = (kind[source] * len(first) + kind[target]) * steps + step
    _, one, edge = np.unique(key, return_index=True, return_inverse=True)
    edges = np.bincount(edge, minlength=len(one))
    return Graph(
        number=number[first],
        atoms=atoms.astype(np.float32),
        source=kind[source[one]],
        target=kind[target[one]],
        distance=(np.bincount(edge, distance, len(one)) / np.maximum(edges, 1)).astype(np.float32),
        count=(edges / atoms[kind[source[one]]]).astype(np.float32),
    )


def _colours(
    number: np.ndarray, source: np.ndarray, target: np.ndarray, step: np.ndarray
) -> np.ndarray:
    """64-bit colours of atoms: two are equal where no number of messages tells the atoms apart."""
    colour = _mixed(number + 1)
    reach = _mixed(step + (1 << 20))
    kinds = 0
    for _ in range(_ROUNDS):
        around = np.zeros(len(number), dtype=np.uint64)
        np.add.at(around, source, _mixed(colour[target] * np.uint64(3) + reach))
        colour = _mixed(colour * np.uint64(5) + around)
        found = len(np.unique(colour))
        if found == kinds:
            break
        kinds = found
    return colour


def _mixed(value: np.ndarray) -> np.ndarray:
    """A hash of integers (splitmix64's finaliser)."""
    x = value.astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed


def collate(graphs: Sequence[Graph], device: torch.device | str = "cpu") -> Batch:
    """One batch of at least one graph."""
    kinds = np.array([len(g.number) for g in graphs])
    edges = np.array([len(g.source) for g in graphs])
    start = np.repeat(np.cumsum(kinds) - kinds, edges)

    def joined(name: str, dtype: torch.dtype, shift: np.ndarray | int = 0) -> Tensor:
        values = np.concatenate([getattr(g, name) for g in graphs]) + shift
        return torch.as_tensor(values, dtype=dtype, device=device)

    index = np.arange(len(graphs))
    return Batch(
        number=joined("number", torch.long),
        atoms=joined("atoms", torch.float32),
        source=joined("source", torch.long, start),
        target=joined("target", torch.long, start),
        distance=joined("distance", torch.float32),
        count=joined("count", torch.float32),
        graph=torch.as_tensor(np.repeat(index, kinds), device=device),
        edge_graph=torch.as_tensor(np.repeat(index, edges), device=device),
        size=len(graphs),
    )
