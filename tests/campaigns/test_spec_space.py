"""Every kind of axis and constraint in a spec: what it means, and what is wrong with one."""

# ruff: noqa: E501 - the tables of mistakes have one a line

from __future__ import annotations

import re

import numpy as np
import pytest

from campaigns.errors import InputErrors, MatloopError, UsageError
from campaigns.spec import Spec, load_spec

SPEC = """\
campaign: every
space:
  alloy: {composition: [Fe, Co, Ni, Cr], at_most: 3, bounds: {Cr: [0, 0.2]}, descriptors: elements}
  a: {range: [0, 1], unit: m}
  b: {range: [0, 100], unit: cm}
  layers: {range: [1, 9], integer: true}
  passes: {range: [1, 9], integer: true}
  solvent: {choice: [water, ethanol], descriptors: {water: {polarity: 1}, ethanol: {polarity: 0.65}}}
  cand: {pool: pool.csv, columns: [u, v, kind], descriptors: kinds.csv}
objectives: {strength: {goal: maximize, unit: MPa}}
evaluate: {with: lab}
constraints:
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.setenv("MATLOOP_CACHE", str(tmp_path / "cache"))
    rows = "".join(f"{i},{i * i},{'xyz'[i % 3]},n{i}\n" for i in range(30))
    (tmp_path / "pool.csv").write_text("u,v,kind,name\n" + rows)
    (tmp_path / "kinds.csv").write_text("kind,size\nx,1\ny,2\nz,4\n")

    def from_text(*constraints, spec=SPEC, changes=()):
        text = spec + "".join(f"  - {c}\n" for c in constraints or ["strength >= 0 MPa"])
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        return load_spec(path)

    return from_text


def test_every_axis_reaches_the_problem(load):
    spec = load()
    assert Spec.model_validate_json(spec.model_dump_json()) == spec
    space = spec.problem().space
    names = space.feature_names
    assert "alloy.mean atomic number" in names
    assert "solvent.polarity" in names
    assert "cand.kind.size" in names
    assert space.size is None
    codes = space.prior(30, np.random.default_rng(0))
    designs = [d for d in space.decode(codes) if d is not None]
    np.testing.assert_allclose(space.features(designs), space.features_at(codes))
    assert all(d["alloy"]["Cr"] <= 0.2 for d in designs)


def test_constraints_on_parameters_are_exact(load):
    spec = load(
        "Fe + Co >= 0.5",
        "alloy.Ni <= 30 percent",
        "a + b <= 120 cm",
        "layers + passes < 8",
        "2 * layers >= 4",
        "cand.u + v <= 100",
        "cand.v >= 4",
        "strength >= 1 GPa",
    )
    problem = spec.problem()
    assert [(c.metric, c.bound) for c in problem.constraints] == [("strength", 1000.0)]
    designs = [d for d in problem.space.sample(100, 0) if d is not None]
    assert len(designs) == 100
    for d in designs:
        assert d["alloy"]["Fe"] + d["alloy"]["Co"] >= 0.5 - 1e-6
        assert d["alloy"]["Ni"] <= 0.3 + 1e-6
        assert d["a"] + d["b"] / 100 <= 1.2 + 1e-5
        assert d["layers"] + d["passes"] <= 7
        assert d["layers"] >= 2
        assert 4 <= d["cand"]["v"] <= 100 - d["cand"]["u"]


def test_equalities(load):
    spec = load(
        "a == 25 cm", "alloy.Fe == 0.4", "layers + passes == 10", "cand.u == 7", "2*b == 30 cm"
    )
    designs = [d for d in spec.problem().space.sample(20, 0) if d is not None]
    for d in designs:
        assert d["a"] == pytest.approx(0.25)
        assert d["b"] == pytest.approx(15)
        assert d["alloy"]["Fe"] == pytest.approx(0.4)
        assert d["layers"] + d["passes"] == 10
        assert d["cand"]["row"] == 7


def test_a_value_may_be_fixed(load):
    spec = load(changes=[("unit: m}", "unit: m, fixed: 0.5}"), ("choice: [water, ethanol]", "choice: [water, ethanol], fixed: water")])  # fmt: skip
    designs = [d for d in spec.problem().space.sample(20, 0) if d is not None]
    assert {d["a"] for d in designs} == {0.5}
    assert {d["solvent"] for d in designs} == {"water"}


def test_a_campaign_is_judged_without_its_files(load, tmp_path):
    spec = load("Fe + Co >= 0.5", "cand.u <= 20")
    for file in ("pool.csv", "kinds.csv"):
        (tmp_path / file).unlink()
    assert spec.goals().metrics == ("strength",)
    with pytest.raises(MatloopError, match="'cand' cannot be read"):
        spec.problem()


def test_constraints_that_exclude_everything_in_python(load):
    data = load().model_dump()
    data["constraints"] = ["Fe + Co >= 0.9", "Fe + Co <= 0.5"]
    with pytest.raises(UsageError, match=r"exclude everything(.|\n)*Fe \+ Co >= 0.9"):
        Spec.model_validate(data).problem()


@pytest.mark.parametrize(
    ("constraint", "what", "hint"),
    [
        ("a + q <= 1", "'q' is not a number, and no parameter", ""),
        ("alloy.Fr + a <= 1", "alloy has no ingredient 'Fr'", "Fe"),
        ("alloy.Fr <= 1", "alloy has no ingredient 'Fr'", "Fe"),
        ("cand.w <= 1", "'w' is not one of the columns", "u, v"),
        ("cand <= 1", "is a pool", "cand.COLUMN"),
        ("alloy <= 1", "is a composition", "alloy.Fe"),
        ("solvent + a <= 1", "between words", ""),
        ("a + layers <= 3", "cannot be added", "units of one kind"),
        ("a + b <= 3", "a unit is missing", "3 m?"),
        ("a + b <= 3 K", "a is in m", ""),
        ("u + a <= 3", "goes|go with no other", "columns alone"),
        ("strength + a <= 3", "strength is a metric", ""),
        ("strength == 3 MPa", "an equality", "target"),
        ("Fe + Co == 2", "excludes every design", "loosen"),
        ("Cr >= 0.3", "leaves no amount of Cr", ""),
        ("alloy.Fe == 2", "Fe is from 0 to 1", ""),
        ("layers == 2.5", "whole number", ""),
        ("a == 3 m", "a is from 0 to 1", ""),
        ("cand.u >= 99", "excludes every design", ""),
    ],
)
def test_constraints_that_cannot_be(load, constraint, what, hint):
    with pytest.raises(InputErrors) as error:
        load(constraint)
    (problem,) = error.value.problems
    assert problem.where.endswith("spec.yaml:13:5")
    assert re.search(what, problem.what), problem
    assert hint in (problem.hint or "")


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("[Fe, Co, Ni, Cr]", "[Fe]", 3, "a composition of one"),
        ("[Fe, Co, Ni, Cr]", "[Fe, Co, Fe, Cr]", 3, "'Fe' is there twice"),
        ("[Fe, Co, Ni, Cr]", "['Fe (x)', Co, Ni, Cr]", 3, "cannot be a name"),
        ("at_most: 3", "at_most: 5", 3, "5 of 4 ingredients"),
        ("at_most: 3", "at_most: 0", 3, "at least 1"),
        ("at_most: 3", "atmost: 3", 3, "unknown key 'atmost'"),
        ("Cr: [0, 0.2]", "Cu: [0, 0.2]", 3, "'Cu' is no ingredient"),
        ("Cr: [0, 0.2]", "Cr: [0, 20]", 3, "not within 0 to the total"),
        ("Cr: [0, 0.2]", "Cr: [-1, 0.2]", 3, "at least 0"),
        ("at_most: 3", "step: 0.3", 3, "does not divide"),
        ("at_most: 3", "total: 0", 3, "above 0"),
        ("descriptors: elements", "descriptors: none.csv", 3, "there is no table"),
        ("[Fe, Co, Ni, Cr]", "[Fe, Co, water, Cr]", 3, "'water' is neither"),
        ("{water: {polarity: 1}, ", "{", 8, "no descriptors of water"),
        ("{polarity: 1}", "{polar: 1}", 8, "not every category has the descriptor"),
        ("{polarity: 1}", "{polarity: wet}", 8, "not a finite number"),
        ("{pool: pool.csv", "{pool: none.csv", 9, "there is no table"),
        ("[u, v, kind]", "[u, v, kid]", 9, "no column 'kid'"),
        ("[u, v, kind]", "[u, v, u]", 9, "'u' is there twice"),
        ("[u, v, kind]", "[]", 9, "no column"),
        ("[u, v, kind]", "[u, v]", 9, "the table has none"),
        ("descriptors: kinds.csv", "descriptors: pool.csv", 9, "pool.csv, line 2, column kind"),
        ("a: {range: [0, 1]", "a: {range: [0, 1], fixed: 2", 4, "2 is not from 0 to 1"),
        (
            "range: [1, 9], integer: true",
            "range: [1, 9], integer: true, default: 1.5",
            6,
            "not a whole number",
        ),
        (
            "solvent: {choice: [water, ethanol]",
            "solvent: {choice: [water, ethanol], fixed: ethanl",
            8,
            "not one of the choice",
        ),
        (
            "solvent: {choice: [water, ethanol]",
            "solvent: {choice: [water, ethanol], retired: [water]",
            8,
            "there twice",
        ),
    ],
)
def test_axes_that_cannot_be(load, old, new, line, what):
    with pytest.raises(InputErrors) as error:
        load(changes=[(old, new)])
    told = [(p.where.partition("spec.yaml:")[2], p.what) for p in error.value.problems]
    assert any(w.startswith(f"{line}:") and what in t for w, t in told), told


def test_columns_of_a_pool_are_known_by_its_head(load, tmp_path):
    whole = ("pool.csv, columns: [u, v, kind], descriptors: kinds.csv", "pool.csv")
    (tmp_path / "pool.csv").write_text("u,v,kind\n1,2,x\n2,8,y\n")
    problem = load("v <= 3", "strength >= 0 MPa", changes=[whole]).problem()
    assert [c.metric for c in problem.constraints] == ["strength"]
    assert [d["cand"]["v"] for d in problem.space.sample(20, 0)] == [2.0] * 20
    with pytest.raises(InputErrors, match="excludes every design"):
        load("v >= 30", changes=[whole])
    with pytest.raises(InputErrors, match="'w' is not one of the columns") as error:
        load("cand.w <= 3", changes=[whole])
    assert error.value.problems[0].hint == "one of: u, v, kind"


def test_a_name_of_two_things_is_asked_about(load):
    two = SPEC.replace("  a: {range", "  steel: {composition: [Fe, C]}\n  a: {range")
    with pytest.raises(InputErrors, match=r"alloy\.Fe or steel\.Fe"):
        load("Fe <= 0.5", spec=two)
    assert load("steel.Fe <= 0.5", spec=two).problem().space.size is None


def test_what_is_wrong_with_a_table_is_named_by_its_line(load, tmp_path):
    text = (tmp_path / "pool.csv").read_text().replace("4,16,", "4,,")
    (tmp_path / "pool.csv").write_text(text)
    with pytest.raises(InputErrors, match=r"pool\.csv, line 6, column v: a value is missing"):
        load()
