"""Public tables of finished campaigns as specs and clean tables that `matloop backtest` takes.

    python benchmarks/tables.py work/            # all of them; then
    matloop backtest work/agnp.yaml --table work/agnp.csv

The originals are read from `campaigns/` in the folder that MATLOOP_SHARED_DATA names, or in
`../shared/data`; each has a SOURCE.md with its paper and its licence. Axes range over what the
table holds. Rows are kept as they are, repeats too; nothing is averaged, scaled or left out but
rows in which an objective was not measured. Three tables of one objective are there a second time,
with another objective that follows from the inputs: `hea_hardness_density`,
`crossed_barrel_section`, `p3ht_filler`.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

Row = dict[str, str]


@dataclass(frozen=True)
class Column:
    """A column of the original: its name there (or its number) and ours, with a unit."""

    source: str | int
    name: str
    unit: str = "dimensionless"
    integer: bool = False


@dataclass(frozen=True)
class Table:
    """A public table.

    Attributes:
        file: under `campaigns/`.
        goals: metric columns and what is wanted of each.
        ranges: columns that are ranges.
        simplex: columns that are shares of one whole.
        choices: columns that are categories.
        elements: choices between elements, which then are described by their properties.
        header: whether the first row names the columns.
        only: values that a row must have.
        sems: metric to its columns of standard deviation and count.
        made: columns that the original lacks, of its rows.
        trials: evaluations of a replay.
    """

    file: str
    goals: tuple[tuple[Column, str], ...]
    ranges: tuple[Column, ...] = ()
    simplex: tuple[Column, ...] = ()
    choices: tuple[Column, ...] = ()
    elements: tuple[str, ...] = ()
    header: bool = True
    only: Mapping[str, str] = field(default_factory=dict)
    sems: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    made: Mapping[str, Callable[[Row], float]] = field(default_factory=dict)
    trials: int = 100


def _shares(*names: str) -> tuple[Column, ...]:
    return tuple(Column(i, name) for i, name in enumerate(names))


def _mixes(unit: str, **names: str) -> tuple[Column, ...]:
    return tuple(Column(source, name, unit) for name, source in names.items())


TABLES = {
    "crossed_barrel": Table(
        "crossed_barrel/crossed_barrel.csv",
        ((Column("toughness", "toughness", "J"), "maximize"),),
        ranges=(
            Column("n", "struts", integer=True),
            Column("theta", "theta", "degree"),
            Column("r", "r", "mm"),
            Column("t", "t", "mm"),
        ),
    ),
    "agnp": Table(
        "agnp/AgNP_dataset.csv",
        ((Column("loss", "loss"), "minimize"),),
        ranges=(
            *_mixes("percent", q_agno3="QAgNO3(%)", q_pva="Qpva(%)", q_tsc="Qtsc(%)"),
            *_mixes("percent", q_seed="Qseed(%)"),
            *_mixes("uL/min", q_total="Qtot(uL/min)"),
        ),
    ),
    "autoam": Table(
        "autoam/AutoAM_dataset.csv",
        ((Column("Score", "score"), "maximize"),),
        ranges=(
            Column("Prime Delay", "prime_delay"),
            Column("Print Speed", "print_speed"),
            Column("X Offset Correction", "x_offset"),
            Column("Y Offset Correction", "y_offset"),
        ),
    ),
    "p3ht": Table(
        "p3ht/P3HT_dataset.csv",
        ((Column("Conductivity (measured) (S/cm)", "conductivity", "S/cm"), "maximize"),),
        simplex=_mixes(
            "percent",
            P3HT="P3HT content (%)",
            D1="D1 content (%)",
            D2="D2 content (%)",
            D6="D6 content (%)",
            D8="D8 content (%)",
        ),
    ),
    "perovskite": Table(
        "perovskite/Perovskite_dataset.csv",
        ((Column("Instability index", "instability"), "minimize"),),
        simplex=_mixes("dimensionless", CsPbI="CsPbI", FAPbI="FAPbI", MAPbI="MAPbI"),
    ),
    "hea_hardness": Table(
        "hea_hardness/tidy.csv",
        ((Column("hardness_HV", "hardness"), "maximize"),),
        simplex=_mixes("percent", Al="Al", Co="Co", Cr="Cr", Cu="Cu", Fe="Fe", Ni="Ni"),
    ),
    "photo_pce10": Table(
        "photo_pce10/data.csv",
        ((Column(4, "degradation"), "minimize"),),
        simplex=_shares("PCE10", "PCBM", "P3HT", "oIDTBR"),
        header=False,
        trials=150,
    ),
    "oer_plate_3496": Table(
        "oer_plate_3496/data.csv",
        ((Column(6, "overpotential", "V"), "minimize"),),
        simplex=_shares("Ni", "Fe", "Co", "Mn", "Ce", "La"),
        header=False,
        trials=200,
    ),
    "oer_plate_4098": Table(
        "oer_plate_4098/data.csv",
        ((Column(6, "overpotential", "V"), "minimize"),),
        simplex=_shares("Sn", "Sb", "Co", "Ca", "Ni", "Mn"),
        header=False,
        trials=200,
    ),
    "hybrid_perovskites": Table(
        "hybrid_perovskites/tidy.csv",
        ((Column("hse_gap_eV", "gap", "eV"), "minimize"),),
        choices=(
            Column("organic", "organic"),
            Column("cation", "cation"),
            Column("anion", "anion"),
        ),
        # The descriptors that come with the table are the same for every value: of no use.
        elements=("cation", "anion"),
    ),
    "concrete": Table(
        "concrete/boxcrete_data.csv",
        (
            (Column("Strength (Mean)", "strength", "psi"), "maximize"),
            (Column("GWP", "gwp", "kg/m^3"), "minimize"),
        ),
        ranges=(
            *_mixes(
                "kg/m^3",
                cement="Cement (kg/m3)",
                fly_ash="Fly Ash (kg/m3)",
                slag="Slag (kg/m3)",
                water="Water (kg/m3)",
                water_reducer="HRWR (kg/m3)",
                fine_aggregate="Fine Aggregate (kg/m3)",
                coarse_aggregate="Coarse Aggregates (kg/m3)",
            ),
            Column("Temp (C)", "temperature", "degC"),
        ),
        only={"Time": "28"},
        sems={"strength": ("Strength (Std)", "# of measurements")},
    ),
    "rafm_steel": Table(
        "rafm_steel/RAFM-dataset.csv",
        ((Column("UTS", "uts", "MPa"), "maximize"), (Column("TE", "elongation"), "maximize")),
        ranges=(
            *(
                Column(e, f"wt_{e}", "percent")
                for e in ("C", "Cr", "W", "Si", "Mn", "V", "Ta", "Zr", "Y", "Ti", "N")
            ),
            Column("NT", "normalising_temperature", "degC"),
            Column("Nt", "normalising_time", "min"),
            Column("TT", "tempering_temperature", "degC"),
            Column("Tt", "tempering_time", "min"),
            Column("Ttest", "test_temperature", "degC"),
        ),
    ),
    "ferroelectric_tc": Table(
        "ferroelectric_tc/tidy.csv",
        ((Column("Tc_K", "tc", "K"), "maximize"),),
        # The share of PbTiO3 is one less the share of the other, but for rounding.
        ranges=(
            Column("x_BiMeO3", "x_bi"),
            Column("tolerance_factor", "tolerance_factor"),
            Column("ionic_displacement_A", "ionic_displacement", "angstrom"),
        ),
    ),
}
"""Name to table. The two-fidelity band gaps are not here: a replay has one fidelity."""


def _density(row: Row) -> float:
    """Of an alloy (g/cm^3), by the volumes of its elements."""
    from pymatgen.core import Element

    parts = [(float(row[e]), Element(e)) for e in ("Al", "Co", "Cr", "Cu", "Fe", "Ni")]
    mass = sum(share * float(e.atomic_mass) for share, e in parts)
    return mass / sum(share * float(e.molar_volume or math.nan) for share, e in parts)


def _section(row: Row) -> float:
    """Of all struts of a crossed barrel (mm^2), which its mass goes with."""
    outer, wall = float(row["r"]), float(row["t"])
    inner = max(outer - wall, 0.0)
    return math.pi * float(row["n"]) * (outer**2 - inner**2)


def _with(name: str, column: Column, goal: str, made: Callable[[Row], float]) -> Table:
    table = TABLES[name]
    return replace(table, goals=(*table.goals, (column, goal)), made={str(column.source): made})


TABLES |= {
    "hea_hardness_density": _with(
        "hea_hardness", Column("density", "density", "g/cm^3"), "minimize", _density
    ),
    "crossed_barrel_section": _with(
        "crossed_barrel", Column("section", "section", "mm^2"), "minimize", _section
    ),
    "p3ht_filler": _with(
        "p3ht",
        Column("filler", "filler", "percent"),
        "minimize",
        lambda row: 100.0 - float(row["P3HT content (%)"]),
    ),
}


def data_folder() -> Path:
    """Where the originals are. Raises `SystemExit` where there are none."""
    given = os.environ.get("MATLOOP_SHARED_DATA")
    folder = (Path(given) if given else ROOT.parent / "shared" / "data") / "campaigns"
    if not folder.is_dir():
        raise SystemExit(f"no tables: {folder} is no folder; set MATLOOP_SHARED_DATA")
    return folder


def prepare(name: str, work: Path, simplex: str = "composition") -> tuple[Path, Path]:
    """Write one table.

    Args:
        name: one of `TABLES`.
        work: folder to write to.
        simplex: what shares of a whole become: one `composition` axis, or `ranges`.

    Returns:
        The spec and the table.
    """
    from ruamel.yaml import YAML

    table, folder = TABLES[name], data_folder()
    rows = _rows(folder / table.file, table)
    work.mkdir(parents=True, exist_ok=True)
    spec = {
        "campaign": name,
        "space": _space(table, rows, simplex),
        "objectives": {c.name: {"goal": goal, "unit": c.unit} for c, goal in table.goals},
        "evaluate": {"with": "lab"},
        "budget": {"trials": min(table.trials, len(rows)), "batch": 4},
    }
    with (work / f"{name}.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(spec, file)
    metrics = [c for c, _ in table.goals]
    columns = [*table.ranges, *table.simplex, *table.choices, *metrics]
    with (work / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow([_header(c) for c in columns] + [f"{m}_sem" for m in table.sems])
        for row in rows:
            sems = [float(row[sd]) / math.sqrt(float(row[n])) for sd, n in table.sems.values()]
            out.writerow([row[str(c.source)] for c in columns] + sems)
    return work / f"{name}.yaml", work / f"{name}.csv"


def _header(column: Column) -> str:
    return column.name if column.unit == "dimensionless" else f"{column.name} ({column.unit})"


def _rows(path: Path, table: Table) -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.reader(file))
    names = [n.strip() for n in lines.pop(0)] if table.header else list(map(str, range(99)))
    rows = [dict(zip(names, map(str.strip, line), strict=False)) for line in lines if any(line)]
    for row in rows:
        row |= {name: str(made(row)) for name, made in table.made.items()}
    wanted = [str(c.source) for c, _ in table.goals]
    return [
        row
        for row in rows
        if all(row[w] for w in wanted) and all(row[k] == v for k, v in table.only.items())
    ]


def _space(table: Table, rows: Sequence[Row], simplex: str) -> dict[str, Any]:
    space: dict[str, Any] = {}
    ranges = table.ranges + (table.simplex if simplex == "ranges" else ())
    for column in ranges:
        values = [float(row[str(column.source)]) for row in rows]
        ends: list[float] = [min(values), max(values)]
        axis: dict[str, Any] = {"range": [int(e) for e in ends] if column.integer else ends}
        if column.unit != "dimensionless":
            axis["unit"] = column.unit
        space[column.name] = axis | ({"integer": True} if column.integer else {})
    if table.simplex and simplex != "ranges":
        space["mix"] = _composition(table, rows)
    for column in table.choices:
        values = sorted({row[str(column.source)] for row in rows})
        space[column.name] = {"choice": values}
        if column.name in table.elements:
            space[column.name]["descriptors"] = "elements"
    return space


def _composition(table: Table, rows: Sequence[Row]) -> dict[str, Any]:
    """Shares of a whole, each between the smallest and the largest of the table."""
    total = 100.0 if table.simplex[0].unit == "percent" else 1.0
    amounts = [[float(row[str(c.source)]) for c in table.simplex] for row in rows]
    scaled = [[total * a / sum(mix) for a in mix] for mix in amounts]
    axis: dict[str, Any] = {"composition": [c.name for c in table.simplex], "total": total}
    axis["bounds"] = {
        column.name: [math.floor(min(values) * 1e4) / 1e4, math.ceil(max(values) * 1e4) / 1e4]
        for column, values in zip(table.simplex, zip(*scaled, strict=True), strict=True)
    }
    return axis | ({"unit": "percent"} if total == 100.0 else {})


def main() -> None:
    """Write the tables that are asked for."""
    parser = argparse.ArgumentParser(description="Prepare public tables for matloop backtest.")
    parser.add_argument("work", type=Path, help="folder to write to")
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--simplex", choices=("composition", "ranges"), default="composition")
    arguments = parser.parse_args()
    for name in arguments.only.split(",") if arguments.only else TABLES:
        spec, table = prepare(name, arguments.work, arguments.simplex)
        print(f"{spec} {table}")


if __name__ == "__main__":
    main()
