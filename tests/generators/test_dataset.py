"""What data for training are made of, and that a version is written whole or not at all."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from generators import load_generator, training
from generators.crystals.dataset import Dataset, load_dataset, read_table
from generators.crystals.generator import CrystalGenerator
from generators.crystals.training import Trained
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
