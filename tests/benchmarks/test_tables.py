"""The public tables, as specs and clean tables that a backtest takes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from campaigns.backtest_table import read_table
from campaigns.spec import load_spec

DESIGNS = {
    "crossed_barrel": (600, 1800),
    "agnp": (164, 3295),
    "autoam": (100, 100),
    "p3ht": (178, 233),
    "perovskite": (94, 139),
    "hea_hardness": (155, 155),
    "photo_pce10": (1020, 1040),
    "oer_plate_3496": (2121, 2121),
    "oer_plate_4098": (2121, 2121),
    "hybrid_perovskites": (192, 192),
    "concrete": (146, 150),
    "rafm_steel": (267, 274),
    "ferroelectric_tc": (131, 132),
    "hea_hardness_density": (155, 155),
    "crossed_barrel_section": (600, 1800),
    "p3ht_filler": (178, 233),
}
"""Designs and measurements, as each table's SOURCE.md counts them."""


@pytest.fixture(scope="module")
def tables(repository: Path) -> ModuleType:
    """`benchmarks/tables.py`."""
    wanted = importlib.util.spec_from_file_location(
        "benchmark_tables", repository / "benchmarks" / "tables.py"
    )
    assert wanted is not None
    assert wanted.loader is not None
    module = importlib.util.module_from_spec(wanted)
    sys.modules[wanted.name] = module
    wanted.loader.exec_module(module)
    return module


def test_there_are_the_tables_that_are_counted(tables: ModuleType) -> None:
    assert set(tables.TABLES) == set(DESIGNS)


@pytest.mark.parametrize("simplex", ["composition", "ranges"])
@pytest.mark.parametrize("name", DESIGNS)
def test_a_public_table_is_read_whole(
    name: str,
    simplex: str,
    tables: ModuleType,
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if simplex == "ranges" and not tables.TABLES[name].simplex:
        pytest.skip("no simplex in this table: the same as the other")
    monkeypatch.setenv("MATLOOP_SHARED_DATA", str(shared_data))
    spec_file, table = tables.prepare(name, tmp_path, simplex)
    spec = load_spec(spec_file)
    read = read_table(table, spec, spec.problem())
    assert (len(read.table), read.rows) == DESIGNS[name]
    assert read.ignored == []
    assert spec.budget.trials <= read.rows


def test_an_objective_that_follows_from_the_inputs(
    tables: ModuleType, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATLOOP_SHARED_DATA", str(shared_data))
    _, table = tables.prepare("p3ht_filler", tmp_path)
    found = pd.read_csv(table)
    assert found["filler (percent)"].tolist() == (100 - found["P3HT (percent)"]).tolist()
    _, table = tables.prepare("hea_hardness_density", tmp_path)
    assert pd.read_csv(table)["density (g/cm^3)"].between(3, 9).all()
