"""What data for training are made of, and that a version is written whole or not at all."""

from __future__ import annotations

import csv
import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from generators import load_generator, training
from generators.crystals import described
from generators.crystals.dataset import Dataset, load_dataset, read_table
from generators.crystals.described import describe_all
from generators.crystals.generator import CrystalGenerator
from generators.crystals.metrics import read_rows
from generators.crystals.training import Trained
from generators.crystals.wyckoff import WyckoffCrystal, describe
from tests.generators.crystals import crystals


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two crystals, and between them a torn one."""
    texts = [str(crystals()[name].to(fmt="cif")) for name in ("rocksalt", "perovskite")]
    path = tmp_path / "rows.csv.gz"
    with gzip.open(path, "wt", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerows([["cif", "gap"], [texts[0], 1], [texts[1][:200], 2], [texts[1], 3]])
    return path


def test_a_torn_row_is_told_and_the_rest_goes_on(table: Path) -> None:
    recipe = {"max_atoms": 20, "held_out": 0.0, "sources": [
        {"file": table.name, "properties": {"gap": "gap"}}
    ]}  # fmt: skip
    told: list[str] = []
    dataset = load_dataset(recipe, table.parent, 1, told.append)
    assert [row.properties["gap"] for row in dataset.rows] == [1.0, 3.0]
    assert dataset.skipped == {"rows.csv.gz: no crystal": 1}
    assert told[0].startswith("left out rows.csv.gz, row 2: ")
    assert told[1] == "left out 1 of rows.csv.gz: no crystal"
    with pytest.raises(ValueError, match=r"rows\.csv\.gz: row 2: "):
        list(read_table(table))


def test_rows_that_repeat_another_are_left_out(table: Path) -> None:
    with gzip.open(table, "rt", newline="") as handle:
        head, first, _, last = list(csv.reader(handle))
    rows = [head, first, last, first, [first[0], "2"], last]
    with gzip.open(table, "wt", newline="") as handle:
        csv.writer(handle).writerows(rows)
    recipe = {"max_atoms": 20, "held_out": 0.0, "sources": [
        {"file": table.name, "properties": {"gap": "gap"}}
    ]}  # fmt: skip
    dataset = load_dataset(recipe, table.parent, 1)
    # one crystal with two values is two readings of it
    assert [row.properties["gap"] for row in dataset.rows] == [1.0, 3.0, 2.0]
    assert dataset.skipped == {"rows.csv.gz: there already, number by number": 2}
    read, problems = read_rows(table)
    assert [row.number for row in read] == [0, 1, 3]
    assert problems == [
        "rows.csv.gz, row 3: the same as row 1, number by number: counted once",
        "rows.csv.gz, row 5: the same as row 2, number by number: counted once",
    ]


def test_what_was_described_comes_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATLOOP_CACHE", str(tmp_path))
    known = list(crystals().values())
    many = Structure(
        Lattice.orthorhombic(30, 31, 32), ["H"] * 24, np.random.default_rng(0).random((24, 3))
    )
    disordered = Structure(Lattice.cubic(4), [{"Na": 0.5}], [[0, 0, 0]])
    structures = [*known, many, disordered]

    def told(found: list[Any]) -> list[str]:
        return [repr(one) for one in found]

    first = describe_all(structures)
    for crystal, structure in zip(first, known, strict=False):
        right = describe(structure)
        assert isinstance(crystal, WyckoffCrystal)
        assert (crystal.free == right.free).all()
        assert replace(crystal, free=0) == replace(right, free=0)
    assert told(first[-2:])[0] == "UndescribableError('too many orbits')"
    assert "disordered" in told(first)[-1]

    def never(*_: Any) -> None:
        raise AssertionError("it was described before")

    monkeypatch.setattr(described, "_row", never)
    assert told(describe_all(structures)) == told(first)
    (path,) = (tmp_path / "crystals").iterdir()
    path.write_bytes(path.read_bytes()[:100])  # a torn file is no file
    with pytest.raises(AssertionError, match="described before"):
        describe_all(structures)


def test_a_version_is_written_once_it_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = load_generator("perovskites")
    assert isinstance(generator, CrystalGenerator)
    trained = Trained(
        generator.network, generator.volumes, np.array(generator.card["property_mean"]),
        np.array(generator.card["property_scale"]), tuple(generator.card["elements"]), 1.0,
    )  # fmt: skip
    out = tmp_path / "mine.safetensors"
    seen: list[Any] = []

    def measure(made: CrystalGenerator, *_: Any) -> dict[str, Any]:
        seen.append((made.name, sorted(tmp_path.iterdir())))
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        training.write(trained, generator.card["recipe"], Dataset((), {}, ""), out)
    assert seen == [("perovskites", [])]
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(training, "measure", lambda *_: {"done": True})
    training.write(trained, generator.card["recipe"], Dataset((), {}, ""), out)
    assert load_generator(out).card["metrics"] == {"done": True}
