"""The spec: what it means, and that everything wrong with one is named at once, by its place."""

# ruff: noqa: E501 - the tables of mistakes have one a line

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from campaigns import spec_environment
from campaigns.errors import InputErrors, MatloopError, UsageError
from campaigns.spec import SCHEMA_FILE, Spec, json_schema, load_spec, schema_text
from campaigns.spec_evaluate import POTENTIAL_METRICS, Potential
from campaigns.templates import SCHEMA_NAME, render_template, template_names, write_template
from campaigns.yaml_file import read_yaml
from generators import WEIGHTS
from generators.crystals.conditioned import Conditioned

DESIGN = """\
campaign: light-stiff
space:
  crystal: {latent: crystals}
  sintering_temperature: {range: [900, 1500], unit: K}
  atmosphere: {choice: [air, argon, hydrogen]}
objectives:
  bulk_modulus: {goal: maximize, unit: GPa}
  density: {goal: minimize, unit: g/cm^3}
constraints:
  - formation_energy <= -0.3 eV/atom
screen: {elements: {exclude: [Pb, Cd, Hg, Tl]}, charge_neutral: true, max_atoms: 20}
evaluate: {with: potential, model: chgnet}
budget: {trials: 40, batch: 4}
stop: {stalled_after: 5}
seed: 0
"""
LAB = """\
campaign: furnace
space:
  temperature: {range: [900, 1500], unit: K}
  steps: {range: [1, 10], integer: true}
  flow: {range: [0.01, 100], log: true, unit: L/min}
  gas: {choice: [air, argon]}
  layers: {choice: [1, 2, 4, 8]}
objectives:
  strength: {goal: maximize, unit: MPa}
evaluate: {with: lab}
"""


def outcome(call, *args):
    """What a call gives, or the errors in its input; anything else that it raises is a failure."""
    try:
        return call(*args)
    except InputErrors as error:
        return error


@pytest.fixture(autouse=True)
def _generators(monkeypatch):
    """The installed generators do not matter here."""
    monkeypatch.setattr(spec_environment, "generator_names", lambda: ["crystals", "perovskites"])


@pytest.fixture
def load(tmp_path):
    def from_text(text):
        path = tmp_path / "spec.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_spec(path)

    return from_text


@pytest.fixture
def wrong(load, tmp_path):
    """What is wrong with a text: (line:column, what, hint)."""

    def problems(text):
        with pytest.raises(InputErrors) as error:
            load(text)
        path = f"{tmp_path / 'spec.yaml'}"
        return [
            (p.where.removeprefix(path).lstrip(":"), p.what, p.hint or "")
            for p in error.value.problems
        ]

    return problems


def changed(text, old, new):
    assert old in text
    return text.replace(old, new)


# What a spec means


def test_the_spec_of_the_documentation(load):
    spec = load(DESIGN)
    assert spec.campaign == "light-stiff"
    assert spec.space["sintering_temperature"].range == (900.0, 1500.0)
    assert spec.metric_units() == {
        "bulk_modulus": "GPa", "density": "g/cm^3", "formation_energy": "eV/atom"
    }  # fmt: skip
    assert spec.evaluator_config() == {"with": "potential", "model": "chgnet"}
    assert spec.budget.batch == 4
    assert spec.stalled_after_trials == 20
    assert spec.evaluate.seconds() == 600.0
    assert spec.evaluate.memory_bytes() == 4 * 2**30


def test_what_can_be_left_out_has_defaults(load):
    spec = load(
        "campaign: a\nspace: {crystal: {latent: crystals}}\nobjectives: {density: {goal: minimize}}\n"
    )
    assert spec.evaluate == Potential()
    assert spec.metric_units() == {"density": "g/cm^3"}
    assert (spec.budget.trials, spec.budget.batch, spec.evaluate.workers) == (40, 4, 2)
    assert spec.stop.stalled_after is None
    assert spec.stalled_after_trials is None
    assert spec.screen.elements.exclude == ()
    assert load(LAB + "budget: {trials: 2}").budget.batch == 2


def test_stop_rules(load):
    assert load(LAB).stop_rules() is None
    assert load(DESIGN).stop_rules().stalled_after == 20
    stop = "stop: {target_met: {strength: 2 GPa}, no_gain: {cost: 3, worth: 0.5}, then: ask}"
    spec = load(LAB + stop)
    rules = spec.stop_rules()
    assert (rules.target_met, rules.targets) == (True, {"strength": 2000.0})
    assert (rules.no_gain.below, rules.no_gain.patience) == (0.01, 2)
    assert (rules.no_gain.cost, rules.no_gain.worth) == (3.0, 0.5)
    assert spec.stop.then == "ask"
    assert Spec.model_validate_json(spec.model_dump_json()) == spec
    goal = "{goal: {target: 3, within: 0.1}, unit: MPa}"
    own = changed(LAB, "{goal: maximize, unit: MPa}", goal) + "stop: {target_met: true}"
    assert load(own).stop_rules().targets is None
    assert load(own.replace("true", "false")).stop_rules() is None


def test_a_kept_spec_whose_question_no_rule_asks_is_still_read(load):
    kept = load(LAB).model_dump(mode="json") | {"stop": {"then": "ask"}}
    assert Spec.model_validate(kept).stop_rules() is None


@pytest.mark.parametrize("text", [DESIGN, LAB])
def test_json_round_trip(load, text):
    spec = load(text)
    assert Spec.model_validate_json(spec.model_dump_json()) == spec
    assert Spec.model_validate(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec
    with pytest.raises(ValidationError):
        spec.seed = 3


def test_text_stays_text(load):
    spec = load(LAB.replace("[air, argon]", "[no, off, on, '1']"))
    assert spec.space["gas"].choice == ("no", "off", "on", "1")
    elements = load(DESIGN.replace("[Pb, Cd, Hg, Tl]", "[No, N, Y]")).screen.elements
    assert elements.exclude == ("No", "N", "Y")
    assert (
        load(changed(DESIGN, "charge_neutral: true", "charge_neutral: no")).screen.charge_neutral
        is False
    )


@pytest.mark.parametrize(
    ("goal", "target", "within"),
    [
        ("'target: 1.4 within 0.1'", 1.4, 0.1),
        ("target 1.4 within 0.1", 1.4, 0.1),
        ("{target: 1.4 within 0.1}", 1.4, 0.1),
        ("{target: 1.4, within: 0.1}", 1.4, 0.1),
        ("{target: 1.4}", 1.4, None),
        ("target 2", 2.0, None),
    ],
)
def test_ways_to_write_a_target(load, goal, target, within):
    spec = load(changed(LAB, "goal: maximize", f"goal: {goal}"))
    goal = spec.objectives["strength"].goal
    assert (goal.target, goal.within) == (target, within)
    assert Spec.model_validate_json(spec.model_dump_json()) == spec


def test_british_goals(load):
    assert load(changed(LAB, "maximize", "maximise")).objectives["strength"].goal == "maximize"


def test_the_problem_has_plain_numbers_in_the_metrics_units(load):
    text = changed(LAB, "unit: MPa}", "unit: MPa, threshold: 0.2 GPa}\n  ph: {goal: 'target: 7 within 0.5', "
                   "unit: dimensionless, threshold: 2}") + textwrap.dedent("""\
        constraints:
          - strength <= 2 GPa
          - 1e-3 GPa <= shrinkage_stress < 5 MPa
          - 1000 <= temperature <= 1400
          - temperature >= 800 degC
          - 2.5 < steps < 8
          - layers > 1
        """)  # fmt: skip
    spec = load(text)
    assert spec.metric_units() == {
        "strength": "MPa", "ph": "dimensionless", "shrinkage_stress": "GPa"
    }  # fmt: skip
    problem = spec.problem()
    strength, ph = problem.objectives
    assert (strength.goal, strength.threshold) == ("maximize", pytest.approx(200.0))
    assert (ph.goal, ph.target, ph.tolerance, ph.threshold) == ("target", 7.0, 0.5, 2.0)
    assert [(c.metric, c.op, pytest.approx(c.bound), c.unit) for c in problem.constraints] == [
        ("strength", "<=", 2000.0, "MPa"),
        ("shrinkage_stress", ">=", 1e-3, "GPa"),
        ("shrinkage_stress", "<=", 5e-3, "GPa"),
    ]
    axes = {axis.name: axis for axis in problem.space.axes}
    assert axes["temperature"].low == pytest.approx(1073.15)
    assert axes["temperature"].high == 1400.0
    assert (axes["steps"].low, axes["steps"].high, axes["steps"].integer) == (3.0, 7.0, True)
    assert axes["flow"].log
    assert axes["flow"].unit == "L/min"
    assert axes["layers"].values == (2, 4, 8)
    assert problem.metrics == ("strength", "ph", "shrinkage_stress")


def test_the_screen_reaches_the_problem(load, monkeypatch):
    monkeypatch.setattr(spec_environment, "load_latent", lambda name: f"generator {name}")
    design = changed(DESIGN, "{latent: crystals}", "{latent: crystals, embed: []}")
    problem = load(design).problem()
    assert problem.space.axes[0].generator == "generator crystals"
    assert problem.screen.exclude == ("Pb", "Cd", "Hg", "Tl")
    assert problem.screen.charge_neutral
    assert problem.screen.steady is True
    asked = changed(design, "charge_neutral: true", "charge_neutral: true, steady: false")
    assert load(asked).problem().screen.steady is False
    assert problem.screen.max_atoms == 20


def test_what_the_surrogate_sees_of_crystals(load):
    (axis,) = (
        load(
            "campaign: a\nspace: {crystal: {latent: crystals}}\nobjectives: {density: {goal: minimize}}\n"
        )
        .problem()
        .space.axes
    )
    assert [type(e).__name__ for e in axis.embeddings] == ["PredictedProperties"]
    assert "crystal.matgl.predicted_bulk_modulus" in axis.feature_names
    text = "campaign: a\nspace: {crystal: {latent: perovskites}}\nobjectives: {density: {goal: minimize}}\n"
    (plain,) = load(text).problem().space.axes
    assert plain.embeddings == ()
    with pytest.raises(InputErrors, match="foretells other properties") as error:
        load(changed(text, "perovskites", "perovskites, embed: [predicted]"))
    assert error.value.problems[0].where.endswith(":2:47")
    assert load(changed(text, "perovskites", "crystals, embed: [predicted]"))


def test_of_what_nothing_foretells_it_sees_a_graph_network(load):
    text = "campaign: a\nspace: {crystal: {latent: perovskites}}\nobjectives: {polarisation: {goal: maximize, unit: C/m^2}}\nevaluate: {with: lab}\n"
    (axis,) = load(text).problem().space.axes
    assert [type(e).__name__ for e in axis.embeddings] == ["MatglEmbedding"]
    bounded = changed(text, "perovskites", "crystals")
    bounded += "constraints: [formation_energy <= -1 eV/atom]\n"
    (axis,) = load(bounded).problem().space.axes
    assert [type(e).__name__ for e in axis.embeddings] == ["PredictedProperties", "MatglEmbedding"]
    (axis,) = load(changed(text, "perovskites", "perovskites, embed: []")).problem().space.axes
    assert axis.embeddings == ()


def test_conditions_are_held_by_the_space(load):
    text = "campaign: a\nspace: {crystal: {latent: perovskites, conditions: {contains: [La, O]}}}\nobjectives: {density: {goal: maximize}}\n"
    spec = load(text)
    assert Spec.model_validate_json(spec.model_dump_json()) == spec
    space = spec.problem().space
    designs = [d for d in space.decode(space.prior(30, np.random.default_rng(0))) if d]
    met = [d for d, why in zip(designs, space.refusals(designs), strict=True) if why is None]
    assert len(met) > len(designs) / 2
    assert all({"La", "O"} <= set(map(str, d["crystal"].composition)) for d in met)
    (plain,) = load(changed(text, "{contains: [La, O]}", "{}")).problem().space.axes
    assert not isinstance(plain.generator, Conditioned)
    unknown = changed(text, "contains: [La, O]", "properties: {heat: 1}")
    with pytest.raises(UsageError, match="conditions cannot be met") as error:
        load(unknown).problem()
    assert "knows no property 'heat'" in error.value.why


def test_paths_are_those_seen_from_the_spec(load, tmp_path, monkeypatch):
    (tmp_path / "mine.safetensors").write_text("")
    (tmp_path / "f.py").write_text("")
    text = changed(LAB, "gas:", "crystal: {latent: ./mine.safetensors}\n  gas:")
    text = changed(text, "{with: lab}", "{with: python, function: 'f.py:measure'}")
    monkeypatch.chdir("/")
    spec = load(text)
    assert spec.space["crystal"].latent == str(tmp_path / "mine.safetensors")
    assert spec.evaluator_config() == {
        "with": "python",
        "function": f"{tmp_path / 'f.py'}:measure",
        "metrics": {"strength": "MPa"},
    }


def test_a_kept_spec_can_be_read_where_its_generator_is_no_more(load, monkeypatch):
    kept = load(DESIGN).model_dump_json()
    monkeypatch.setattr(spec_environment, "generator_names", lambda: ["other"])
    assert Spec.model_validate_json(kept).campaign == "light-stiff"


def test_settings_of_the_potential_are_those_it_knows(load):
    settings_of = pytest.importorskip("loop.evaluators.potential")
    names = set(settings_of.Settings.__dataclass_fields__) - {"keep_symmetry"}
    assert names <= set(Potential.model_fields)
    assert settings_of.METRICS == POTENTIAL_METRICS
    spec = load(changed(DESIGN, "model: chgnet", "model: chgnet, fmax: 0.02, eos_points: 7"))
    config = spec.evaluator_config()
    assert config == {"with": "potential", "model": "chgnet", "fmax": 0.02, "eos_points": 7}
    properties = json_schema()["$defs"]["Potential"]["properties"]
    for name in names:
        limits = properties[name]["anyOf"][0]
        for value in (limits["minimum"], limits["maximum"]):
            settings_of.Settings(**{name: value})


# What is wrong with one


@pytest.mark.parametrize(
    ("old", "new", "place", "what", "hint"),
    [
        ("campaign: light-stiff", "campagne: x", "1:1", "unknown key 'campagne'", "'campaign'"),
        ("campaign: light-stiff", "campaign: 2024", "1:11", "text was wanted, not 2024", "quotes"),
        ("campaign: light-stiff", "campaign: ../x", "1:11", "cannot name a campaign", "letters"),
        ("campaign: light-stiff", "seed: 1", "1:1", "'campaign' is missing", ""),
        ("  crystal: {latent: crystals}", "  crystal: {latnt: crystals}", "3:12", "which kind", "latent"),
        ("{latent: crystals}", "{latent: crystal}", "3:21", "no generator 'crystal'", "'crystals'"),
        ("{latent: crystals}", "{latent: ./none}", "3:21", "no generator at", ""),
        ("{latent: crystals}", "{latent: ./spec.yaml}", "3:21", "is no generator", ".safetensors"),
        ("{latent: crystals}", "{latent: crystals, range: [0, 1]}", "3:38", "latent and range", "two"),
        ("{latent: crystals}", "{latent: crystals, conditions: {spacegroup: 225}}", "3:43", "no conditions called 'spacegroup'", "chemical_system"),
        ("{latent: crystals}", "{latent: crystals, conditions: {atoms: 0}}", "3:43", "1 or more, not 0", ""),
        ("{latent: crystals}", "{latent: crystals, conditions: {steady: true}}", "3:43", "rule of the screen", ""),
        ("{latent: crystals}", "{latent: crystals, conditions: Li-Fe-O}", "3:43", "Li-Fe-O", ""),
        ("{latent: crystals}", "{latent: random, conditions: {atoms: 5}}", "3:41", "takes no conditions", "own keys"),
        ("{latent: crystals}", "3", "3:12", "an axis is a mapping", "latent"),
        ("  sintering_temp", "  a: {latent: perovskites}\n  s", "4:3", "takes one crystal", ""),
        ("[900, 1500]", "[1500, 900]", "4:34", "nothing to choose", "[900, 1500]?"),
        ("[900, 1500]", "[900, 900]", "4:34", "nothing to choose", ""),
        ("[900, 1500]", "['1,5', 3]", "4:35", "a number was wanted", "comma"),
        ("[900, 1500]", "['900', 3000]", "4:35", "a number was wanted", "remove the quotes"),
        ("[900, 1500]", "[.nan, 3]", "4:35", "finite number", ""),
        ("[900, 1500]", "[900]", "4:34", "two numbers", ""),
        ("[900, 1500]", "[900, 1200, 1500]", "4:34", "two numbers", ""),
        ("[900, 1500]", "900", "4:34", "a list was wanted", ""),
        ("unit: K}", "unit: Kk}", "4:53", "'Kk' is not a unit", "'K'"),
        ("unit: K}", "unit: K, step: 5}", "4:56", "unknown key 'step'", "range"),
        ("[900, 1500], unit: K", "[0, 1], log: true", "4:35", "cannot begin at 0", ""),
        ("[900, 1500], unit: K", "[0.5, 3], integer: true", "4:34", "whole bounds", ""),
        ("[air, argon, hydrogen]", "[]", "5:24", "no value", ""),
        ("[air, argon, hydrogen]", "[air]", "5:24", "a single value", ""),
        ("[air, argon, hydrogen]", "[air, argon, air]", "5:37", "'air' is there twice", ""),
        ("[air, argon, hydrogen]", "[1, 1.0]", "5:28", "twice", ""),
        ("[air, argon, hydrogen]", "[1, '2']", "5:24", "text and numbers", "quotes"),
        ("[air, argon, hydrogen]", "[true, false]", "5:25", "no choices", "quotes"),
        ("[air, argon, hydrogen]", "[[1], 2]", "5:25", "text or a number", ""),
        ("  bulk_modulus:", "  bulk_moduls:", "7:3", "does not give 'bulk_moduls'", "'bulk_modulus'"),
        ("  bulk_modulus:", "  9bulk:", "7:3", "cannot be a name", ""),
        ("  bulk_modulus:", "  trial:", "7:3", "'trial' is the name of a column", ""),
        ("  bulk_modulus:", "  crystal:", "7:3", "name of an axis", ""),
        ("goal: maximize", "goal: max", "7:24", "'max' is not a goal", "maximize"),
        ("goal: maximize", "goal: maximze", "7:24", "not a goal", "'maximize'"),
        ("goal: maximize", "goal: 'target: 1,4'", "7:24", "comma", ""),
        ("goal: maximize", "goal: {target: 1, within: 0}", "7:44", "above 0", ""),
        ("goal: maximize", "goal: {target: 1, witin: 2}", "7:36", "unknown key", "'within'"),
        ("goal: maximize, unit", "unit", "7:3", "'goal' is missing", ""),
        ("unit: GPa", "unit: gpa", "7:40", "'gpa' is not a unit", "'GPa'"),
        ("unit: GPa", "unit: g/cm^3", "7:40", "bulk_modulus in GPa", "unit: GPa"),
        ("unit: GPa", "unit: GPa, threshold: 20 g", "7:56", "cannot be converted", ""),
        ("unit: GPa", "unit: GPa, threshold: high", "7:56", "not a number", ""),
        ("unit: GPa", "unit: GPa, threshold: true", "7:56", "a threshold is a number", ""),
        ("-0.3 eV/atom", "-0.3 eV", "10:5", "formation_energy is in eV/atom", "eV/atom"),
        ("-0.3 eV/atom", "-0.3", "10:5", "a unit is missing", "-0.3 eV/atom?"),
        ("-0.3 eV/atom", "-0,3 eV/atom", "10:5", "comma", ""),
        ("-0.3 eV/atom", "low", "10:5", "not a number", ""),
        ("<= -0.3", "== -0.3", "10:5", "equality", "target"),
        ("<= -0.3", "-0.3", "10:5", "no <= or >=", "write NAME"),
        ("formation_energy <=", "formation_enrgy <=", "10:5", "no metric", "'formation_energy'"),
        ("formation_energy <=", "density + 1 <=", "10:5", "arithmetic", ""),
        ("formation_energy <= -0.3 eV/atom", "3 <= density >= 2", "10:5", "same way", ""),
        ("formation_energy <= -0.3 eV/atom", "3 <= density <= 2", "10:5", "contradicts", ""),
        ("formation_energy <= -0.3 eV/atom", "2 <= density <= 2", "10:5", "contradicts", "target"),
        ("formation_energy <= -0.3 eV/atom", "sintering_temperature > 2000", "10:5", "nothing to", ""),
        ("formation_energy <= -0.3 eV/atom", "sintering_temperature > 2 GPa", "10:5", "in K", ""),
        ("formation_energy <= -0.3 eV/atom", "atmosphere > 2", "10:5", "between words", ""),
        ("formation_energy <= -0.3 eV/atom", "crystal > 2", "10:5", "latent axis", ""),
        ("- formation_energy <= -0.3 eV/atom", "- 3", "10:5", "text was wanted", ""),
        ("[Pb, Cd, Hg, Tl]", "[Pb, Cdd]", "11:35", "'Cdd' is not an element", "'Cd'"),
        ("[Pb, Cd, Hg, Tl]", "[lead]", "11:31", "'lead' is not an element", ""),
        ("exclude: [Pb, Cd, Hg, Tl]", "include: [O, Pb], exclude: [Cd, Pb]", "11:53", "both", ""),
        ("exclude: [Pb, Cd, Hg, Tl]", "include: []", "11:30", "no element is left", ""),
        ("charge_neutral: true", "charge_neutral: maybe", "11:65", "true or false", ""),
        ("max_atoms: 20", "max_atoms: 0", "11:82", "at least 1", ""),
        ("max_atoms: 20", "max_atoms: 2.5", "11:82", "whole number", ""),
        ("with: potential", "with: potental", "12:18", "not an evaluator", "'potential'"),
        ("with: potential, model: chgnet", "with: dft, code: vasp", "12:29", "'gpaw' or 'espresso'", ""),
        ("with: potential, ", "", "12:11", "'with' is missing", ""),
        ("model: chgnet", "model: chgnett", "12:36", "no potential 'chgnett'", "'chgnet'"),
        ("model: chgnet", "model: ./none", "12:36", "no model at", ""),
        ("model: chgnet", "fmax: -1", "12:35", "at least 0.0001", ""),
        ("model: chgnet", "workers: 0", "12:38", "at least 1", ""),
        ("model: chgnet", "time_limit: 10", "12:41", "text was wanted", "quotes"),
        ("model: chgnet", "time_limit: 10 GPa", "12:41", "not a time: write it as in '90 s'", ""),
        ("model: chgnet", "time_limit: -1 min", "12:41", "above zero", ""),
        ("model: chgnet", "memory_limit: 4 GPa", "12:43", "not an amount of memory", ""),
        ("model: chgnet", "memory_limit: 4 MB", "12:43", "64 MiB", ""),
        ("model: chgnet", "modell: chgnet", "12:29", "unknown key 'modell'", "'model'"),
        ("batch: 4", "batch: 50", "13:29", "more than the 40 trials", "40"),
        ("trials: 40", "trials: lots", "13:18", "whole number", ""),
        ("stalled_after: 5", "stalled_after: 0", "14:23", "at least 1", ""),
        ("stalled_after: 5", "target_met: true", "14:20", "no objective says when", "within"),
        ("stalled_after: 5", "target_met: yes please", "14:20", "whether to stop", "true, or"),
        ("stalled_after: 5", "target_met: {}", "14:20", "no target is named", "300 GPa"),
        ("stalled_after: 5", "target_met: {bulk: 3}", "14:21", "'bulk' is no objective", "bulk_modulus"),
        ("stalled_after: 5", "target_met: {density: 3 GPa}", "14:30", "density is in g/cm^3", "g/cm^3"),
        ("stalled_after: 5", "target_met: {density: high}", "14:30", "not a number", "20 GPa"),
        ("stalled_after: 5", "then: ask", "14:8", "no stop rule is there", "add stalled_after"),
        ("stalled_after: 5", "target_met: false, then: ask", "14:27", "no stop rule is there", ""),
        ("stalled_after: 5", "no_gain: {below: 0}", "14:25", "above 0", ""),
        ("stalled_after: 5", "no_gain: {patience: 0}", "14:28", "at least 1", ""),
        ("stalled_after: 5", "no_gain: {cost: 3}", "14:24", "without worth", "add worth"),
        ("stalled_after: 5", "no_gain: {cost: 3, worth: 1}", "14:18", "one objective only", "below"),
        ("stalled_after: 5", "then: wait", "14:14", "'end' or 'ask'", ""),
        ("seed: 0", "seed: -1", "15:7", "at least 0", ""),
        ("seed: 0", "seed: 0\nfine_tune: {evry: 20}", "16:13", "unknown key 'evry'", "every"),
        ("seed: 0", "seed: 0\nfine_tune: {every: 1}", "16:20", "at least 4", ""),
        ("seed: 0", "seed: 0\nfine_tune: {method: weigh}", "16:21", "no way to learn", "weighting"),
        ("seed: 0", "seed: 0\nfine_tune: {data: nowhere}", "16:19", "no folder", "draws"),
        ("seed: 0", "seed: 0\nfine_tune: {floor: {valid: 2}}", "16:28", "at most 1", ""),
        ("seed: 0", "seed: 0\nseed: 1", "16:1", "'seed' is there twice", "line 15"),
        ("seed: 0", "seed: &x 0", "15:7", "anchors", ""),
        ("seed: 0", "seed: !!python/name:os.system x", "15:7", "tag", ""),
        ("seed: 0", "\tseed: 0", "15:1", "a tab", "spaces"),
        ("seed: 0", "seed: 0\n---\na: 1", "16:1", "second document", ""),
        ("goal: maximize", "goal: target: 1", "7:30", "a ',' or a closing bracket is missing", ""),
    ],
)  # fmt: skip
def test_each_mistake_is_named(wrong, old, new, place, what, hint):
    problems = wrong(changed(DESIGN, old, new))
    assert any(w == place and what in t and hint in h for w, t, h in problems), problems


@pytest.mark.parametrize(
    ("old", "new", "place", "what"),
    [
        ("strength: {goal: maximize, unit: MPa}", "strength: {goal: maximize}", "9:13", "unit of strength"),
        ("evaluate: {with: lab}", "evaluate: {with: potential}", "2:1", "no crystal"),
        ("evaluate: {with: lab}", "evaluate: {with: lab}\nscreen: {max_atoms: 3}", "11:1", "nothing to screen"),
        ("evaluate: {with: lab}", "evaluate: {with: python}", "10:1", "'function' is missing"),
        ("{with: lab}", "{with: python, function: no.py:f}", "10:36", "no file"),
        ("{with: lab}", "{with: python, function: nothing}", "10:36", "names no function"),
        ("{with: lab}", "{with: lab, workers: 3}", "10:23", "unknown key"),
        ("{with: lab}", "{with: python, function: 'm:f', metrics: {strength: kg}}", "9:36", "strength in kg"),
        ("{with: lab}", "{with: lab}\nstop: {no_gain: {cost: 3, worht: 1}}", "11:27", "unknown key"),
        ("{with: lab}", "{with: lab}\nconstraints: [strenth <= 3 MPa]", "11:15", "no metric"),
        ("{with: lab}", "{with: lab}\nconstraints: [hardness <= 3]", "11:15", "unit is missing"),
        ("{with: lab}", "{with: lab}\nconstraints: [1.5 < steps < 2]", "11:15", "nothing to choose"),
        ("{with: lab}", "{with: lab}\nconstraints: [layers > 4]", "11:15", "one value"),
        ("{with: lab}", "{with: lab}\nconstraints: [a <= 1 g, a >= 2 g]", "11:25", "contradicts 'a <= 1 g'"),
        ("{with: lab}", "{with: lab}\nconstraints: [a <= 1 g, a >= 2 m]", "11:25", "a is in g"),
    ],
)  # fmt: skip
def test_each_mistake_without_a_crystal_is_named(wrong, old, new, place, what):
    problems = wrong(changed(LAB, old, new))
    assert any(w == place and what in t for w, t, _ in problems), problems


def test_excluding_every_element(wrong):
    from campaigns.elements import SYMBOLS

    problems = wrong(changed(DESIGN, "[Pb, Cd, Hg, Tl]", f"[{', '.join(SYMBOLS)}]"))
    assert problems[0][:2] == ("11:30", "no element is left")


def test_all_mistakes_are_named_at_once_in_the_order_of_the_file(wrong):
    text = DESIGN
    for old, new in (
        ("light-stiff", "2024"),
        ("[900, 1500]", "[1500, 900]"),
        ("maximize", "maximze"),
        ("unit: g/cm^3", "unit: eV"),
        ("-0.3 eV/atom", "-0.3 eV"),
        ("Cd", "Cdd"),
        ("chgnet", "chgnett"),
        ("batch: 4", "batch: 400"),
        ("stalled_after", "stalled"),
        ("seed", "sed"),
    ):
        text = changed(text, old, new)
    problems = wrong(text)
    lines = [int(where.split(":")[0]) for where, _, _ in problems]
    assert lines == sorted(lines)
    assert lines == [1, 4, 7, 8, 10, 11, 12, 13, 14, 15]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("- a\n- b\n", "a spec is a mapping"),
        ("just text", "a spec is a mapping"),
        ("{}", "'campaign' is missing"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not"),
        (b"\xff\xfea\0", "UTF-16"),
        ("a: [", "too early"),
        ("[" * 5000, "nested too deeply"),
        ("x" * 300_000, "larger"),
        ("campaign:\nspace:\nobjectives:\n", "nothing"),
        ("space: {}\ncampaign: a\nobjectives: {}\n", "is empty"),
    ],
)
def test_files_that_are_no_spec(wrong, text, what):
    assert any(what in problem[1] for problem in wrong(text))


def test_files_that_are_not_there(tmp_path):
    (tmp_path / "near.yaml").write_text("")
    with pytest.raises(InputErrors, match=r"does not exist(.|\n)*near\.yaml"):
        load_spec(tmp_path / "none.yaml")
    with pytest.raises(InputErrors, match="folder"):
        load_spec(tmp_path)


def test_a_spec_made_in_python_is_checked_as_well(load):
    data = load(DESIGN).model_dump()
    data["constraints"] = ["density <= 1 g/cm^3", "density >= 2 g/cm^3"]
    with pytest.raises(ValidationError, match="contradicts"):
        Spec.model_validate(data)


WORDS = st.sampled_from(
    ["campaign", "space", "objectives", "constraints", "screen", "evaluate", "budget", "crystal", "latent",
     "crystals", "range", "choice", "goal", "unit", "GPa", "with", "potential", "lab", ": ", "\n", "\n  ", "- ",
     "{", "}", "[", "]", ", ", "1", "-2.5", "<=", "'", '"', "null", "no", "#", "&", "*", "!", "|", ">", "\t", "%"]
)  # fmt: skip


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WORDS, max_size=60).map("".join) | st.text(max_size=200) | st.binary(max_size=200))
def test_garbage_is_an_input_error(load, text):
    if isinstance(text, str):
        text = text.encode("utf-8", "surrogatepass")
    with pytest.raises(InputErrors) as error:
        load(text)
    assert str(error.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_value_anywhere_is_taken_or_named(load, tmp_path, data):
    (tmp_path / "base.yaml").write_text(DESIGN)
    spec = read_yaml(tmp_path / "base.yaml").data
    at = spec
    while isinstance(at, dict | list):
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.booleans()):
            at[key] = data.draw(VALUES)
            break
        at = at[key]
    text = json.dumps(spec).replace("NaN", ".nan").replace("Infinity", ".inf")
    assert str(outcome(load, text))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("abcdensity<>=0123456789. -*/^()", max_size=40))
def test_any_constraint_is_taken_or_named(load, text):
    constraint = f"- {json.dumps(text)}"
    assert str(outcome(load, changed(DESIGN, "- formation_energy <= -0.3 eV/atom", constraint)))


# Schema and templates


def test_the_shipped_schema_is_up_to_date():
    shipped = SCHEMA_FILE.read_text(encoding="utf-8")
    assert shipped == schema_text(), "python -m campaigns.spec > campaigns/spec.schema.json"


def test_the_schema_knows_good_specs_from_bad(tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    schema = jsonschema.Draft202012Validator(json_schema())
    schema.check_schema(json_schema())

    def valid(text):
        (tmp_path / "x.yaml").write_text(text)
        return schema.is_valid(read_yaml(tmp_path / "x.yaml").data)

    assert valid(DESIGN)
    assert valid(LAB)
    assert not valid(changed(DESIGN, "seed: 0", "sed: 0"))
    assert not valid(changed(DESIGN, "with: potential", "with: oracle"))
    assert not valid(changed(DESIGN, "Cd", "Cdd"))
    assert not valid(changed(DESIGN, "{latent: crystals}", "{pol: a.csv}"))


def test_every_key_of_the_schema_is_described():
    def undescribed(schema, path):
        for key, value in schema.get("properties", {}).items():
            if not value.keys() & {"description", "$ref"}:
                yield f"{path}.{key}"

    schema = json_schema()
    missing = list(undescribed(schema, "spec"))
    for name, part in schema["$defs"].items():
        missing += undescribed(part, name)
    assert missing == []


@pytest.mark.parametrize("name", template_names())
def test_templates_are_valid_specs_with_their_schema_beside_them(name, tmp_path):
    spec_file, schema_file = write_template(name, tmp_path / "new" / "folder")
    assert spec_file.name == f"{name}.yaml"
    first = spec_file.read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA_NAME}"
    assert schema_file == spec_file.parent / SCHEMA_NAME
    assert schema_file.read_text() == schema_text()
    assert load_spec(spec_file).campaign == name
    with pytest.raises(UsageError, match="there already"):
        write_template(name, spec_file.parent)
    assert sorted(p.name for p in spec_file.parent.iterdir()) == sorted(
        [spec_file.name, SCHEMA_NAME]
    )


def test_light_stiff():
    assert "light-stiff" in template_names()
    spec = Spec.model_validate_json(Spec.model_validate(_data("light-stiff")).model_dump_json())
    assert spec.metric_units() == {
        "bulk_modulus": "GPa", "density": "g/cm^3", "formation_energy": "eV/atom"
    }  # fmt: skip
    assert spec.constraints == ("formation_energy <= -0.3 eV/atom",)
    assert (spec.evaluate.workers, spec.budget.trials, spec.budget.batch) == (2, 40, 4)


def _data(name):
    from pathlib import Path

    from campaigns.yaml_file import parse_yaml

    return parse_yaml(render_template(name), Path("template.yaml")).data


def test_templates_that_are_not_there(tmp_path):
    with pytest.raises(UsageError, match="light-stiff"):
        render_template("light-stif")
    with pytest.raises(UsageError):
        render_template("../../setup")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UsageError, match="a folder was wanted"):
        write_template("light-stiff", blocked)
    with pytest.raises(MatloopError, match="cannot be written"):
        write_template("light-stiff", blocked / "folder")


# Cost


def test_weights_that_are_not_those_of_their_card_are_told(load, tmp_path):
    (tmp_path / "mine.safetensors").write_bytes(b"other")
    card = json.loads((WEIGHTS / "perovskites.json").read_text())
    (tmp_path / "mine.json").write_text(json.dumps(card))
    with pytest.raises(InputErrors, match="the file was changed or cut short") as error:
        load(changed(DESIGN, "crystals", "./mine.safetensors"))
    assert error.value.problems[0].hint == "a .safetensors file and its card are moved together"


def test_reading_a_spec_loads_nothing_heavy(tmp_path):
    path = tmp_path / "spec.yaml"
    (tmp_path / "g.safetensors").write_text("")
    path.write_text(DESIGN.replace("crystals", "./g.safetensors"))
    code = f"""
        import sys
        import campaigns.spec
        heavy = {{"torch", "pymatgen", "pandas", "numpy", "ax", "ase", "sqlalchemy", "pint", "ruamel.yaml"}}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        campaigns.spec.load_spec({str(path)!r})
        heavy = {{"torch", "pymatgen", "pandas", "ax", "ase", "loop", "generators"}}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
