"""The evaluators `table` and `each`, and crystals made of a design's values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loop.evaluators import EvaluationFailed, EvaluatorError, Measurement, make_evaluator
from loop.evaluators.geometry import only_volume_is_free
from loop.evaluators.prototypes import PROTOTYPES, make_crystal

TEXT = """metal, T (K), mix.a, y (GPa), y_sem, z, fidelity, failure
Fe, 300, 0.25, 1.5, 0.1, 2, cheap,
Fe, 300, 0.25, 2.5, , 4, cheap,
Fe, 300, 0.25, 9, , 4, dear,
Co, 400, 0.5, , , 1, dear, it melted
"""


@pytest.fixture
def table(tmp_path: Path) -> Any:
    (tmp_path / "t.csv").write_text(TEXT.replace(", ", ","))
    return make_evaluator(
        {"with": "table", "table": str(tmp_path / "t.csv"), "metrics": {"z": "eV"}}
    )


FE = {"metal": "Fe", "T": 300.0000001, "mix": {"a": 0.25, "row": 7}}


def test_a_table_answers(table: Any) -> None:
    assert table.metrics() == {"T": "K", "y": "GPa", "z": "eV"}
    cheap, dear = table.at("cheap"), table.at("dear")
    assert dear.evaluate(FE, ["y"], 0).measurements == {"y": Measurement(9.0, None, "GPa")}
    found = cheap.evaluate(FE, ["y", "z"], 0)
    assert found.measurements == {
        "y": Measurement(2.0, pytest.approx(0.5), "GPa"),
        "z": Measurement(3.0, 1.0, "eV"),
    }
    with pytest.raises(EvaluationFailed, match="it melted"):
        dear.evaluate({"metal": "Co", "T": 400, "mix": {"a": 0.5}}, ["y"], 0)
    with pytest.raises(EvaluationFailed, match="no row of metal Ni"):
        table.evaluate(FE | {"metal": "Ni"}, ["y"], 0)
    with pytest.raises(EvaluatorError, match="no column p"):
        table.evaluate(FE | {"p": 1}, ["y"], 0)
    with pytest.raises(EvaluatorError, match="no row of the fidelity 'lab'"):
        table.at("lab")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read|has no rows"),
        ("a,b\n", "has no rows"),
        ("a,a (K)\n1,2\n", "two columns are called 'a'"),
        ("a,b\n1,2,3\n", "row 2: 3 cells"),
        ('a,b\n"1,2\n', "cannot be read"),
    ],
)
def test_a_table_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(EvaluatorError, match=said):
        make_evaluator({"with": "table", "table": str(tmp_path / "t.csv")}).metrics()


def test_an_evaluator_for_each_fidelity(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y (GPa)\n1,5\n")
    (tmp_path / "f.py").write_text("def f(design, seed):\n    return {'y': design['x'], 'w': 1}\n")
    each = {
        "cheap": {"with": "table", "table": str(tmp_path / "t.csv")},
        "dear": {
            "with": "python",
            "function": f"{tmp_path / 'f.py'}:f",
            "metrics": {"y": "GPa", "w": "K"},
        },
        "lab": {"with": "lab"},
    }
    evaluator = make_evaluator({"with": "each", "each": each})
    assert evaluator.metrics() == {"y": "GPa"}
    evaluator.check(["y"])
    found = [
        evaluator.at(name).evaluate({"x": 1}, ["y"], 0).measurements["y"].mean for name in each
        if name != "lab"
    ]  # fmt: skip
    assert found == [5.0, 1.0]
    with pytest.raises(EvaluatorError, match="at lab a person answers"):
        evaluator.at("lab")
    with pytest.raises(EvaluatorError, match="no evaluator of the fidelity 'other'"):
        evaluator.at("other")
    with pytest.raises(EvaluatorError, match="without a fidelity"):
        evaluator.evaluate({"x": 1}, ["y"], 0)
    with pytest.raises(EvaluatorError, match="at cheap: there is no table"):
        make_evaluator({"with": "each", "each": {"cheap": {"with": "table", "table": "none.csv"}}})


def test_crystals_made_of_values() -> None:
    for name, (number, _) in PROTOTYPES.items():
        crystal = make_crystal(name, ["Mg", "O"][:number])
        cubic = name not in ("wurtzite", "hcp")
        assert only_volume_is_free(crystal) is cubic, name
        assert crystal.get_space_group_info()[0] == {
            "rocksalt": "Fm-3m", "zincblende": "F-43m", "cesiumchloride": "Pm-3m",
            "wurtzite": "P6_3mc", "fluorite": "Fm-3m", "diamond": "Fd-3m", "bcc": "Im-3m",
            "fcc": "Fm-3m", "hcp": "P6_3/mmc",
        }[name]  # fmt: skip
    with pytest.raises(EvaluatorError, match="takes 2 elements, not 1"):
        make_crystal("rocksalt", ["Mg"])
    with pytest.raises(EvaluationFailed, match="Mg alone"):
        make_crystal("rocksalt", ["Mg", "Mg"])
    with pytest.raises(EvaluatorError, match="no element 'Qq'"):
        make_crystal("rocksalt", ["Mg", "Qq"])


def test_any_calculator_of_ase() -> None:
    evaluator = make_evaluator(
        {
            "with": "potential",
            "calculator": {"import": "ase.calculators.emt:EMT", "elements": ["Cu", "Al"]},
            "crystal": {"prototype": "fcc", "elements": ["metal"]},
        }
    )
    wanted = ["bulk_modulus", "bulk_modulus_vrh", "volume_per_atom"]
    found = evaluator.evaluate({"metal": "Cu"}, wanted, 0).measurements
    # EMT's copper: 11.57 angstrom^3 (3.59 angstrom), 134 GPa.
    assert found["volume_per_atom"].mean == pytest.approx(11.57, rel=0.01)
    assert found["bulk_modulus"].mean == pytest.approx(134.0, rel=0.05)
    assert found["bulk_modulus_vrh"].mean == pytest.approx(found["bulk_modulus"].mean, rel=0.05)
    with pytest.raises(EvaluationFailed, match="not trained on Fe"):
        evaluator.evaluate({"metal": "Fe"}, wanted, 0)
    for target, said in (("ase.calculators.emt:Nope", "no attribute"), ("emt", "no callable")):
        with pytest.raises(EvaluatorError, match=said):
            make_evaluator({"with": "potential", "calculator": {"import": target}}).metrics()
