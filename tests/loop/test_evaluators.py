"""Evaluators: what they refuse, what they answer, and that the answers are CHGNet's own."""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from pymatgen.core import Lattice, Structure

from loop.evaluators import (
    Evaluation,
    EvaluationFailed,
    EvaluatorError,
    Measurement,
    check_evaluation,
    is_automatic,
    make_evaluator,
)
from loop.evaluators.base import crystal_of, read_cif
from loop.evaluators.measuring import Settings
from loop.evaluators.models import (
    Potential,
    PropertyModel,
    elemental_crystals,
    load_model,
    quiet_imports,
    quiet_use,
    self_test_potential,
)
from loop.evaluators.potential import PotentialEvaluator, to_cif
from loop.evaluators.references import SHIPPED, make_table, reference_energies

ALL = ["formation_energy", "density", "bulk_modulus", "volume_per_atom", "energy"]


def cubic(group: str, length: float, symbols: list[str], second: float = 0.5) -> Structure:
    places = [[0, 0, 0], [second] * 3][: len(symbols)]
    return Structure.from_spacegroup(group, Lattice.cubic(length), symbols, places)


MGO = cubic("Fm-3m", 4.3, ["Mg", "O"])
NACL = cubic("Fm-3m", 5.5, ["Na", "Cl"])
SILICON = cubic("Fd-3m", 5.5, ["Si"])
DIAMOND = cubic("Fd-3m", 3.5, ["C"])
COPPER = cubic("Fm-3m", 3.7, ["Cu"])


def design(structure: Structure) -> dict[str, Any]:
    return {"crystal": {"cif": to_cif(structure)}, "temperature": 900.0}


@pytest.fixture(scope="module")
def chgnet() -> PotentialEvaluator:
    evaluator = make_evaluator({"with": "potential", "model": "chgnet"})
    assert isinstance(evaluator, PotentialEvaluator)
    return evaluator


def with_calculator(calculator: Calculator, **settings: Any) -> PotentialEvaluator:
    """An evaluator whose potential is a fast ASE calculator."""
    evaluator = PotentialEvaluator({"with": "potential", "model": "chgnet", **settings})
    evaluator.__dict__["model"] = Potential(
        name="toy",
        weights_sha256="0" * 64,
        calculator=calculator,
        elements=frozenset({"Cu", "Al", "Au", "O"}),
        reference_set="MatPES-PBE",
        packages={"chgnet": "toy"},
    )
    return evaluator


class Counting(EMT):
    calls = 0

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        type(self).calls += 1
        super().calculate(*args, **kwargs)


class Spoilt(EMT):
    """EMT whose energy goes wrong in a given way."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def calculate(
        self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        volume = atoms.get_volume() / len(atoms)
        if self.how == "nan":
            self.results["energy"] = math.nan
        elif self.how == "falls apart":
            # A pressure that never ends until the cell is far too large.
            pull = 0.02 if volume < 60 else 0.0
            self.results["forces"] = np.zeros((len(atoms), 3))
            self.results["stress"] = -np.array([pull] * 3 + [0.0] * 3)
        elif self.how == "no minimum":
            self.results["forces"] = np.zeros((len(atoms), 3))
            self.results["stress"] = np.zeros(6)
            self.results["energy"] = -0.1 * volume * len(atoms)
        elif self.how == "turns":
            # Squeezed by a twelfth of its volume, it is another crystal of lower energy.
            if volume < 11.57 * 11 / 12:
                self.results["energy"] -= 1.0 * len(atoms)
        elif self.how == "noise":
            self.results["forces"] = np.zeros((len(atoms), 3))
            self.results["stress"] = np.zeros(6)
            self.results["energy"] = (volume - 12.6) ** 2 * 1e-3 + 0.1 * math.sin(40 * volume)


# What every evaluator shares


def test_an_evaluation_survives_json() -> None:
    evaluation = Evaluation(
        {"y": Measurement(1.5, 0.1, "GPa"), "z": Measurement(2.0, None, "eV")},
        {"a.cif": "text"},
        1.0,
        {"model": "m"},
    )
    assert Evaluation.from_json(json.loads(json.dumps(evaluation.to_json()))) == evaluation


@pytest.mark.parametrize(
    ("measurements", "said"),
    [
        ({}, "y: the evaluator gave no value"),
        ({"y": Measurement(math.nan, None, "GPa")}, "y: the value is nan"),
        ({"y": Measurement(1.0, -1.0, "GPa")}, "y: the standard error is -1"),
    ],
)
def test_a_lacking_number_is_a_failure(measurements: dict[str, Measurement], said: str) -> None:
    with pytest.raises(EvaluationFailed, match=said):
        check_evaluation(Evaluation(measurements), ["y"])


def test_a_lab_is_not_run() -> None:
    assert is_automatic({"with": "potential"})
    assert not is_automatic({"with": "lab"})
    with pytest.raises(EvaluatorError, match=r"a person answers.*ingest"):
        make_evaluator({"with": "lab"})
    with pytest.raises(EvaluatorError, match="no evaluator 'oracle'"):
        is_automatic({"with": "oracle"})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"modell": "chgnet"}, "does not know modell"),
        ({"model": "chgnet:9"}, r"no potential 'chgnet:9'.*chgnet:0\.3\.0"),
        ({"model": "no/such/folder"}, "no folder no/such/folder"),
        ({"fmax": 0}, "fmax is 0"),
        ({"fmax": "tight"}, "fmax is 'tight', not a number"),
        ({"eos_points": 3}, "eos_points is 3"),
    ],
)
def test_a_wrong_potential_is_refused_at_once(config: dict[str, Any], said: str) -> None:
    with pytest.raises(EvaluatorError, match=said):
        make_evaluator({"with": "potential"} | config)


def test_the_crystal_of_a_design() -> None:
    assert len(crystal_of(design(MGO))) == 8
    with pytest.raises(EvaluatorError, match="has 0; its axes are temperature"):
        crystal_of({"temperature": 3.0})
    with pytest.raises(EvaluatorError, match=r"has 2 \(a, b\)"):
        crystal_of({"a": {"cif": ""}, "b": {"cif": ""}})
    with pytest.raises(EvaluationFailed, match="CIF cannot be read"):
        read_cif("data_x\nnonsense")
    mixed = Structure(Lattice.cubic(4.0), [{"Mg": 0.5, "Ca": 0.5}], [[0, 0, 0]])
    with pytest.raises(EvaluationFailed, match="partly occupied"):
        read_cif(mixed.to(fmt="cif"))


def test_a_cif_gives_the_very_cell_back() -> None:
    odd = Structure(
        Lattice.from_parameters(3.123456789, 4.2, 5.3, 81.2, 93.4, 100.1),
        ["Mg", "O"],
        [[0.12345678912, 0.2, 0.3], [0.6, 0.71, 0.83]],
    )
    back = read_cif(to_cif(odd))
    assert np.allclose(back.lattice.parameters, odd.lattice.parameters, atol=1e-11, rtol=0)
    assert np.allclose(back.frac_coords, odd.frac_coords, atol=1e-11, rtol=0)


# The user's own function


def write(folder: Path, body: str) -> str:
    path = folder / "mine.py"
    path.write_text(body)
    return f"{path}:measure"


def python(function: str, **metrics: str) -> Any:
    return make_evaluator({"with": "python", "function": function, "metrics": metrics})


def test_a_function_of_the_user(tmp_path: Path) -> None:
    target = write(
        tmp_path,
        "import numpy as np\n"
        "def measure(design, seed):\n"
        "    return {'y': (design['x'] * 2, 0.5), 'z': np.float64(seed), 'other': 'ignored',\n"
        "            'atoms': len(design['crystal'])}\n",
    )
    evaluator = python(target, y="GPa", z="K", atoms="atom")
    answer = evaluator.evaluate({"x": 3, **design(MGO)}, ["y", "z", "atoms"], 7)
    assert answer.measurements == {
        "y": Measurement(6.0, 0.5, "GPa"),
        "z": Measurement(7.0, None, "K"),
        "atoms": Measurement(8.0, None, "atom"),
    }
    assert answer.provenance["function"].endswith("mine.py:measure")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('too hot')", "ValueError: too hot"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("return 5", "returned int, not a dict"),
        ("return {'z': 1}", r"returned no y \(only z\)"),
        ("return {'y': 'high'}", "y is 'high'"),
        ("return {'y': None}", "y is None"),
        ("return {'y': True}", "y is True"),
        ("return {'y': [1, 2, 3]}", "y is .1, 2, 3."),
    ],
)
def test_a_function_that_gives_no_number(
    tmp_path: Path, body: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    evaluator = python(write(tmp_path, f"def measure(design, seed):\n    {body}\n"), y="GPa")
    with pytest.raises(EvaluationFailed, match=said):
        evaluator.evaluate({"x": 1}, ["y"], 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("measure = 3", "has no function measure"),
        ("def measure(design): ...", "must take a design and a seed"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_no_such_function(
    tmp_path: Path, text: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    evaluator = python(write(tmp_path, text), y="GPa")
    with pytest.raises(EvaluatorError, match=said):
        evaluator.check(["y"])


def test_a_function_is_named_whole() -> None:
    for function in ("measure", ":measure", "mine.py:", 3):
        with pytest.raises(EvaluatorError, match="names no function"):
            python(function, y="GPa")  # type: ignore[arg-type]
    with pytest.raises(EvaluatorError, match=r"no file nowhere\.py"):
        python("nowhere.py:f", y="GPa")
    with pytest.raises(EvaluatorError, match="needs the metrics"):
        python("math:sqrt")
    with pytest.raises(EvaluatorError, match=r"does not give z.*y \(GPa\)"):
        python("operator:add", y="GPa").evaluate({}, ["z"], 0)


# The potential: what ends a trial


@pytest.mark.parametrize(
    ("structure", "said"),
    [
        (Structure(Lattice.cubic(4), ["Cu", "Cu"], [[0, 0, 0], [0.02, 0, 0]]), "0.08 angstrom"),
        (Structure(Lattice.cubic(0.9), ["Cu"], [[0, 0, 0]]), "angstrom.3/atom, less than any"),
        (Structure(Lattice.cubic(4), ["Po"], [[0, 0, 0]]), "not trained on Po"),
        (COPPER.copy().make_supercell([6, 6, 6], in_place=False), "864 atoms in the cell"),
    ],
)
def test_a_crystal_that_is_none(structure: Structure, said: str) -> None:
    evaluator = with_calculator(EMT())
    with pytest.raises(EvaluationFailed, match=said):
        evaluator.evaluate(design(structure), ["density"], 0)


def test_many_atoms_in_the_primitive_cell() -> None:
    evaluator = with_calculator(EMT(), max_atoms=1)
    two = cubic("Pm-3m", 3.2, ["Cu", "Al"])
    with pytest.raises(EvaluationFailed, match="2 atoms in the primitive cell; at most 1"):
        evaluator.evaluate(design(two), ["density"], 0)
    evaluator.evaluate(design(COPPER), ["density"], 0)  # four atoms in its cube, one in its cell


@pytest.mark.parametrize(
    ("how", "metric", "said"),
    [
        ("nan", "density", "energy of nan"),
        ("falls apart", "density", "the volume went to|not relaxed"),
        ("no minimum", "bulk_modulus", "no minimum|equation of state"),
        ("noise", "bulk_modulus", "fits badly|no minimum"),
    ],
)
def test_figures_that_are_none(how: str, metric: str, said: str) -> None:
    evaluator = with_calculator(Spoilt(how))
    with pytest.raises(EvaluationFailed, match=said):
        evaluator.evaluate(design(COPPER), [metric], 0)


def test_a_crystal_that_turns_into_another_is_squeezed_half_as_far() -> None:
    answer = with_calculator(Spoilt("turns")).evaluate(design(COPPER), ["bulk_modulus"], 0)
    assert answer.measurements["bulk_modulus"].mean == pytest.approx(134, rel=0.1)
    assert answer.provenance["equation_of_state"]["strain"] == 0.025
    plain = with_calculator(EMT()).evaluate(design(COPPER), ["bulk_modulus"], 0)
    assert plain.provenance["equation_of_state"]["strain"] == 0.05


def test_not_relaxed_is_a_failure_even_where_symmetry_holds_the_forces_at_zero() -> None:
    evaluator = with_calculator(EMT(), max_steps=1)
    with pytest.raises(EvaluationFailed, match=r"not relaxed after 1 steps: force .* virial"):
        evaluator.evaluate(design(COPPER), ["density"], 0)


def test_only_what_is_asked_is_computed() -> None:
    evaluator = with_calculator(Counting())
    answer = evaluator.evaluate(design(COPPER), ["density"], 0)
    calls, Counting.calls = Counting.calls, 0
    assert list(answer.measurements) == ["density"]
    both = evaluator.evaluate(design(COPPER), ["density", "bulk_modulus"], 0)
    assert Counting.calls >= calls + 10
    assert both.measurements["bulk_modulus"].unit == "GPa"
    # ASE's EMT copper: 134 GPa at its own lattice.
    assert both.measurements["bulk_modulus"].mean == pytest.approx(134, rel=0.1)
    with pytest.raises(EvaluatorError, match="does not give hardness"):
        evaluator.evaluate(design(COPPER), ["hardness"], 0)


def test_elements_of_a_foreign_potential_are_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATLOOP_CACHE", str(tmp_path))
    potential = with_calculator(Counting()).model
    assert isinstance(potential, Potential)
    Counting.calls = 0
    first = reference_energies(potential, ["Cu", "Al"])
    assert Counting.calls > 0
    Counting.calls = 0
    assert reference_energies(potential, ["Cu", "Al"]) == first
    assert Counting.calls == 0
    for path in tmp_path.rglob("Cu-*.json"):
        path.write_text("{")  # torn: computed again, not believed
    assert reference_energies(potential, ["Cu"])["Cu"] == pytest.approx(first["Cu"])
    with pytest.raises(EvaluationFailed, match="no crystal of Po"):
        reference_energies(potential, ["Po"])


# CHGNet


def test_the_calculator_gives_what_chgnets_own_gives(chgnet: PotentialEvaluator) -> None:
    with quiet_imports():
        from chgnet.model.dynamics import CHGNetCalculator
        from chgnet.model.model import CHGNet
    with contextlib.redirect_stdout(io.StringIO()):
        stock = CHGNetCalculator(CHGNet.load(use_device="cpu", verbose=False), use_device="cpu")
    potential = chgnet.model
    assert isinstance(potential, Potential)
    for structure in (MGO, cubic("Fm-3m", 4.2, ["Mn", "O"])):
        atoms = structure.to_ase_atoms()
        atoms.rattle(0.05, seed=1)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.003 * np.arange(9).reshape(3, 3)), True)
        figures = []
        for calculator in (stock, potential.calculator):
            atoms.calc = calculator
            with quiet_use():
                figures.append(
                    (atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress())
                )
        assert figures[1][0] == pytest.approx(figures[0][0], abs=1e-5)
        assert np.abs(figures[1][1] - figures[0][1]).max() < 1e-4
        assert np.abs(figures[1][2] - figures[0][2]).max() < 1e-5


@pytest.mark.parametrize(
    ("structure", "per_cube", "lattice", "modulus", "formation"),
    [
        # Lattice (angstrom) and bulk modulus (GPa): Materials Project PBE; CHGNet within 1.5 and
        # 15 %. Formation energy (eV/atom): Materials Project, within 0.1.
        (MGO, 8, 4.25, 151, -3.04),
        (NACL, 8, 5.69, 24, -2.11),
        (DIAMOND, 8, 3.573, 434, 0.13),
    ],
    ids=["MgO", "NaCl", "diamond"],
)
def test_known_figures(
    chgnet: PotentialEvaluator,
    structure: Structure,
    per_cube: int,
    lattice: float,
    modulus: float,
    formation: float,
) -> None:
    answer = chgnet.evaluate(design(structure), ALL, 0)
    means = {name: m.mean for name, m in answer.measurements.items()}
    assert (per_cube * means["volume_per_atom"]) ** (1 / 3) == pytest.approx(lattice, rel=0.015)
    assert means["bulk_modulus"] == pytest.approx(modulus, rel=0.15)
    assert means["formation_energy"] == pytest.approx(formation, abs=0.1)
    again = chgnet.evaluate(design(structure), ALL, 99)
    for name, value in means.items():
        assert again.measurements[name].mean == pytest.approx(value, rel=1e-6, abs=1e-6)
    assert answer.provenance["model"] == "chgnet:0.3.0"
    assert len(answer.provenance["weights_sha256"]) == 64
    assert answer.provenance["elements"]["set"] == "MP-PBE"


@pytest.mark.slow
@pytest.mark.parametrize("structure", [MGO, NACL, SILICON], ids=["MgO", "NaCl", "Si"])
def test_by_hand_on_the_exported_cif(chgnet: PotentialEvaluator, structure: Structure) -> None:
    """matcalc and chgnet's own calculator, squeezed as far, on what a user would download."""
    answer = chgnet.evaluate(design(structure), ALL, 0)
    exported = Structure.from_str(answer.artifacts["relaxed.cif"], fmt="cif")
    with quiet_imports():
        from chgnet.model.dynamics import CHGNetCalculator
        from matcalc import EnergeticsCalc, EOSCalc, RelaxCalc
    with contextlib.redirect_stdout(io.StringIO()):
        calculator = CHGNetCalculator(use_device="cpu")
    with quiet_use():
        relaxed = RelaxCalc(calculator, fmax=0.01).calc(exported)["final_structure"]
        state = EOSCalc(calculator, max_abs_strain=Settings().eos_strain).calc(exported)
        # The set holds up to 62 crystals of an element; the small ones hold the lowest here.
        crystals = elemental_crystals("MP-PBE")
        small = {
            e.symbol: {"structure": [c for c in crystals[e.symbol] if len(c) <= 8]}
            for e in exported.composition
        }
        energetics = EnergeticsCalc(calculator, elemental_refs=small).calc(exported)
    means = {name: m.mean for name, m in answer.measurements.items()}
    assert float(relaxed.density) == pytest.approx(means["density"], rel=0.01)
    assert state["_units"]["bulk_modulus_bm"] == "GPa"
    assert state["bulk_modulus_bm"] == pytest.approx(means["bulk_modulus"], rel=0.01)
    assert energetics["formation_energy_per_atom"] == pytest.approx(
        means["formation_energy"], abs=0.010
    )


@pytest.mark.parametrize("version", ["0.3.0", "r2scan"])
def test_the_shipped_tables_belong_to_the_installed_weights(version: str) -> None:
    potential = load_model(f"chgnet:{version}")
    assert isinstance(potential, Potential)
    table = json.loads((SHIPPED / f"chgnet-{version}.json").read_text())
    assert table["weights_sha256"] == potential.weights_sha256
    assert set(table["elements"]) == potential.elements
    self_test_potential(potential.calculator, potential.elements, potential.name)


def test_the_command_makes_the_same_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """For two elements; the energies of matcalc's own call, and of the shipped table."""
    with quiet_imports():
        from matcalc import EnergeticsCalc
    whole = load_model("chgnet:r2scan")
    assert isinstance(whole, Potential)
    two = Potential(**{**vars(whole), "elements": frozenset({"Mg", "Cu"})})
    monkeypatch.setattr("loop.evaluators.references.load_model", lambda model: two)
    made = make_table("chgnet:r2scan", progress=False)["elements"]
    shipped = json.loads((SHIPPED / "chgnet-r2scan.json").read_text())["elements"]
    crystal = Structure(Lattice.cubic(3.2), ["Mg", "Cu"], [[0, 0, 0], [0.5] * 3])
    with quiet_use():
        matcalcs = EnergeticsCalc(
            whole.calculator, elemental_refs="MatPES-r2SCAN", relax_structure=False
        ).calc(crystal)["formation_energy_per_atom"]
        atoms = crystal.to_ase_atoms()
        atoms.calc = whole.calculator
        energy = atoms.get_potential_energy()
    for table in (made, shipped):
        ours = (energy - table["Mg"]["energy"] - table["Cu"]["energy"]) / 2
        assert ours == pytest.approx(matcalcs, abs=1e-3)


# matgl


def test_a_model_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(EvaluatorError, match=r"materialyze/no-such-model.*HF_HUB_OFFLINE"):
        load_model("no-such-model")
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(EvaluatorError, match=r"lacks model\.pt, state\.pt"):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("M3GNet-MP-2021.2.8-PES", "fails its self-test: formation energy of MgO"),
        ("TensorNet-MatPES-PBE-v2025.1-PES", "fails its self-test: formation energy of MgO"),
        ("MEGNet-MP-2018.6.1-Eform", "fails its self-test: formation_energy of TiN"),
        ("MEGNet-MP-2019.4.1-BandGap-mfi", "fails its self-test: band_gap of MgO"),
    ],
)
def test_a_checkpoint_of_matgl_2_is_refused(
    shared_data: Path,
    name: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MATLOOP_CACHE", str(tmp_path))
    with pytest.raises(EvaluatorError, match=said):
        load_model(str(shared_data / "models" / name))


def repaired(source: Path, folder: Path) -> Path:
    """A copy of a checkpoint of matgl 2 that is right under matgl 4.

    matgl 4 sums messages at the other end of an edge. Every edge has its opposite, so swapping the
    two ends in the first weights that see them undoes that.
    """
    import torch

    target = folder / source.name
    target.mkdir()
    for name in ("model.json", "model.pt", "state.pt"):
        shutil.copyfile(source / name, target / name)
    state = torch.load(target / "state.pt", map_location="cpu", weights_only=True)  # noqa: TID251
    for name, weight in state.items():
        if name.endswith("tensor_embedding.emb2.weight"):
            half = weight.shape[1] // 2
            state[name] = torch.cat([weight[:, half:], weight[:, :half]], 1)
        elif name.endswith("conv.edge_func.layers.0.weight"):
            state[name] = torch.cat([weight[:, 32:64], weight[:, :32], weight[:, 64:]], 1)
    torch.save(state, target / "state.pt")
    return target


def test_a_matgl_potential_by_folder(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATLOOP_CACHE", str(tmp_path / "cache"))
    folder = repaired(shared_data / "models" / "TensorNet-MatPES-PBE-v2025.1-PES", tmp_path)
    # squeezed as matcalc does by default: nearer to rest this network is softer than DFT (126 GPa)
    config = {"with": "potential", "model": str(folder), "eos_strain": 0.1}
    evaluator = make_evaluator(config)
    answer = evaluator.evaluate(design(MGO), ALL, 0)
    means = {name: m.mean for name, m in answer.measurements.items()}
    # MatPES PBE, which has no corrections of oxides.
    assert means["formation_energy"] == pytest.approx(-2.7, abs=0.15)
    assert means["density"] == pytest.approx(3.45, rel=0.03)
    assert means["bulk_modulus"] == pytest.approx(151, rel=0.15)
    assert answer.provenance["self_test"]["figures"]["TiN"] == pytest.approx(-1.8, abs=0.1)
    records = list((tmp_path / "cache").rglob("self-test-*.json"))
    assert len(records) == 1  # tested once on this machine, not in every trial


def test_a_matgl_property_model_by_folder(shared_data: Path, tmp_path: Path) -> None:
    folder = repaired(shared_data / "models" / "MEGNet-MP-2018.6.1-Eform", tmp_path)
    evaluator = make_evaluator({"with": "potential", "model": str(folder)})
    assert evaluator.metrics() == {"formation_energy": "eV/atom"}
    given = cubic("Fm-3m", 5.66, ["Na", "Cl"])  # not relaxed by a property model
    answer = evaluator.evaluate(design(given), ["formation_energy"], 0)
    assert answer.measurements["formation_energy"].mean == pytest.approx(-2.1, abs=0.1)
    assert answer.provenance["relaxed"] is False
    with pytest.raises(EvaluatorError, match=r"does not give density"):
        evaluator.evaluate(design(NACL), ["density"], 0)
    other = load_model(str(folder), metric="melting_point", unit="K")
    assert isinstance(other, PropertyModel)
    assert (other.metric, other.unit) == ("melting_point", "K")
