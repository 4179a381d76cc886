"""Space groups worked out from their operations."""

from __future__ import annotations

import numpy as np
import pytest

from generators.crystals.symmetry import _table, free_parameters, operations, space_group, work_out

# International Tables A: number of Wyckoff positions
KNOWN_POSITIONS = {
    1: 1,
    2: 9,
    14: 5,
    47: 27,
    62: 4,
    139: 15,
    166: 9,
    194: 12,
    221: 14,
    225: 12,
    230: 8,
}


@pytest.mark.parametrize(("number", "count"), KNOWN_POSITIONS.items())
def test_number_of_positions(number: int, count: int) -> None:
    assert len(space_group(number).positions) == count


def test_every_group_has_the_positions_of_the_international_tables() -> None:
    assert sum(len(space_group(n).positions) for n in range(1, 231)) == 1731


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, 231, 46))
def test_the_shipped_table_is_what_the_operations_give(first: int) -> None:
    for number in range(first, min(first + 46, 231)):
        assert work_out(number) == _table()[str(number)]


@pytest.mark.parametrize("number", [5, 12, 62, 152, 166, 194, 216, 227])
def test_a_position_makes_its_multiplicity_of_distinct_sites(number: int) -> None:
    group = space_group(number)
    for position in group.positions:
        sites = position.sites(np.array([0.1234, 0.2718, 0.3819]))
        off = sites[:, None] - sites[None]
        off = np.abs(off - np.round(off)).max(-1) + np.eye(len(sites))
        assert len(sites) == position.multiplicity
        assert off.min() > 1e-3
        found = free_parameters(position, sites, 1e-6)
        assert len(found) >= 1


def test_sodium_chloride_positions_exchange_under_the_normalizer() -> None:
    # Fm-3m: an origin shift by half exchanges 4a and 4b (International Tables A, 3.5)
    group = space_group(225)
    assert sum(len(origins) for _, origins in group.normalizer) == 2


def test_polar_axes() -> None:
    assert space_group(1).polar == (0, 1, 2)
    assert space_group(186).polar == (2,)
    assert space_group(225).polar == ()


@pytest.mark.parametrize("number", [0, 231, -1])
def test_unknown_number(number: int) -> None:
    with pytest.raises(ValueError, match="1 to 230"):
        operations(number)


@pytest.mark.parametrize(
    ("number", "order", "centrosymmetric", "lattice_dof"),
    [
        (1, 1, False, 6),
        (2, 2, True, 6),
        (5, 2, False, 4),
        (14, 4, True, 4),
        (62, 8, True, 3),
        (99, 8, False, 2),
        (148, 6, True, 2),
        (166, 12, True, 2),
        (194, 24, True, 2),
        (216, 24, False, 1),
        (225, 48, True, 1),
        (227, 48, True, 1),
    ],
)
def test_how_much_symmetry_a_group_has(
    number: int, order: int, centrosymmetric: bool, lattice_dof: int
) -> None:
    group = space_group(number)
    assert (group.order, group.centrosymmetric, group.lattice_dof) == (
        order,
        centrosymmetric,
        lattice_dof,
    )


def test_all_groups_have_the_free_lengths_of_their_system() -> None:
    bounds = ((2, 6), (15, 4), (74, 3), (194, 2), (230, 1))
    for number in range(1, 231):
        wanted = next(dof for last, dof in bounds if number <= last)
        assert space_group(number).lattice_dof == wanted, number
    assert sum(space_group(n).centrosymmetric for n in range(1, 231)) == 92
