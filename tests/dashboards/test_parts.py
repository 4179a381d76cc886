"""The parts of the report: numbers in print, scales, pictures of crystals, calibration."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from campaigns.calibration import Record, track_records
from campaigns.facts import read_facts
from dashboards import typography as t
from dashboards import words
from dashboards.crystal_picture import MOST_ATOMS, gradients, picture, scene, view
from dashboards.crystals import cifs, downloads, read_crystal
from dashboards.figures import Plot, Scale, viridis

NBSP, MINUS = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}"


# Typography


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (213.44, "213.4"), (0.0, "0"), (-0.31, f"{MINUS}0.3100"), (99999.6, "100000"),
        (1234567.0, "1.235\N{MULTIPLICATION SIGN}10⁶"), (3e-7, "3.000\N{MULTIPLICATION SIGN}10⁻⁷"),
        (float("nan"), "\N{EN DASH}"), (None, "\N{EN DASH}"),
    ],
)  # fmt: skip
def test_numbers(value, text):
    assert t.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(20.0, "20"), (-0.3, f"{MINUS}0.3"), (100.0, "100"), (0.05, "0.05")]
)
def test_short_numbers(value, text):
    assert t.short(value) == text


@pytest.mark.parametrize(
    ("mean", "sem", "text"),
    [(213.44, 1.234, "213.4 ± 1.2"), (213.44, 12.34, "213 ± 12"), (5123.4, 123.0, "5120 ± 120"),
     (1.0, None, "1.000"), (1.0, float("nan"), "1.000"), (1.0, 0.0, "1.000 ± 0")],
)  # fmt: skip
def test_a_mean_is_rounded_to_its_error(mean, sem, text):
    assert t.with_error(mean, sem).replace(NBSP, " ") == text


@pytest.mark.parametrize(
    ("given", "shown"),
    [("g/cm^3", "g/cm³"), ("angstrom**3/atom", "Å³/atom"), ("dimensionless", ""), ("GPa", "GPa"),
     ("S*cm^-1", "S·cm⁻¹"), ("degC", "°C")],
)  # fmt: skip
def test_units(given, shown):
    assert t.unit(given) == shown


def test_names_of_designs():
    assert t.design_name("Al2O3 (R-3c, 10 atoms)") == "Al₂O₃ (R-3c, 10 atoms)"
    assert t.design_name("temperature 1200 K") == "temperature 1200 K"
    assert t.design_name(None) == "unnamed design"
    html = t.design_name_html("ZnS (P6_3mc, 4 atoms), x 2")
    assert html == "ZnS<br><small><i>P6<sub>3</sub>mc</i>, 4 atoms, x 2</small>"
    assert "&lt;b&gt;" in t.design_name_html("<b> 2")
    assert t.space_group_html("Fm-3m") == '<i>Fm<span class="bar">3</span>m</i>'


def test_percent_is_never_rounded_to_all_or_nothing():
    assert t.percent(0.997) == f"99.7{NBSP}%"
    assert t.percent(1.0) == f"100{NBSP}%"
    assert t.percent(0.004) == f"0.4{NBSP}%"


# Charts


@pytest.mark.parametrize(
    "values", [[], [np.nan], [0.0], [5.0, 5.0], [-1e-9, 1e-9], [-3e8, 2e8], [1.0, np.inf, 2.0]]
)
def test_scales_hold_what_is_finite(values):
    scale = Scale.around(values)
    assert scale.low < scale.high
    ticks = [value for value, _ in scale.ticks()]
    assert 1 <= len(ticks) <= 8
    assert all(scale.low <= tick <= scale.high for tick in ticks)
    assert all(0 < scale.share(v) < 1 for v in values if np.isfinite(v))


def test_a_log_scale_and_one_of_words():
    scale = Scale.around([0.1, 100.0], log=True)
    assert [text for _, text in scale.ticks()] == ["0.1", "1", "10", "100"]
    assert scale.share(10.0) == pytest.approx(2 / 3, abs=0.02)
    assert [text for _, text in Scale.of_names(["air", "argon"]).ticks()] == ["air", "argon"]
    assert all(value % 1 == 0 for value, _ in Scale(0, 3, whole=True).ticks())


def test_names_do_not_cover_each_other():
    plot = Plot(Scale(0, 1), Scale(0, 1), "x", "y")
    for _ in range(30):
        plot.mark(0.5, 0.5, "front", 1)
    for _ in range(30):
        plot.name(0.5, 0.5, "Al₂O₃")
    svg = plot.render("k", "<b>", "<i>")
    assert 1 <= svg.count("Al₂O₃") < 10
    assert "<b>" not in svg
    assert "&lt;b&gt;" in svg


def test_colours():
    assert viridis(-1) == "#440154"
    assert viridis(2) == "#fde725"
    assert re.fullmatch("#[0-9a-f]{6}", viridis(0.37))


# Crystals


def test_a_cell_is_drawn_with_the_atoms_on_its_faces():
    cell = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    drawn = scene(cell)
    assert (drawn.symbols.count("Mg"), drawn.symbols.count("O")) == (14, 13)
    assert len(drawn.bonds) == 54
    lengths = [np.linalg.norm(drawn.xyz[i] - drawn.xyz[j]) for i, j in drawn.bonds]
    assert lengths == pytest.approx([2.1] * 54)
    svg = picture(drawn, 'a "title" & <more>')
    assert svg.count("<circle") == 27
    assert len(svg) < 9000
    assert "&lt;more&gt;" in svg
    numbers = json.loads(re.search('data-crystal="([^"]*)"', svg)[1].replace("&#34;", '"'))
    assert len(numbers["atoms"]) == 27
    assert len(numbers["bonds"]) == 108
    pixels = [float(x) for x in re.findall(r'c[xy]="([-\d.]+)"', svg)]
    assert min(pixels) > 0
    assert max(pixels) < 200
    assert gradients(drawn.symbols).count("<radialGradient") == 2


def test_the_nearest_atom_is_drawn_last():
    pair = Structure(Lattice.cubic(8), ["Na", "Cl"], [[0.3, 0.5, 0.5], [0.7, 0.5, 0.5]])
    svg = picture(scene(pair), "")
    towards_reader = view()[2]
    near, far = ("Cl", "Na") if towards_reader[0] > 0 else ("Na", "Cl")
    assert svg.index(f"#el-{near}") > svg.index(f"#el-{far}")


def test_the_view_is_a_rotation():
    assert view() @ view().T == pytest.approx(np.eye(3))
    assert np.linalg.det(view()) == pytest.approx(1)


def test_a_crystal_too_large_for_a_picture():
    atoms = MOST_ATOMS + 1
    places = np.random.default_rng(0).random((atoms, 3))
    assert scene(Structure(Lattice.cubic(30), ["C"] * atoms, places)) is None


def test_no_bond_between_atoms_far_apart():
    assert scene(Structure(Lattice.cubic(9), ["Ar"], [[0.5, 0.5, 0.5]])).bonds == ()
    perovskite = Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(3.9), ["Sr", "Ti", "O"],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]],
    )  # fmt: skip
    drawn = scene(perovskite)
    pairs = {frozenset((drawn.symbols[i], drawn.symbols[j])) for i, j in drawn.bonds}
    assert pairs == {frozenset({"Ti", "O"})}


def test_the_crystal_that_results_belong_to_comes_first(crystals):
    trial = crystals.campaign.trial(0)
    texts = cifs(trial["design"], {"relaxed.cif": "r", "notes.txt": "x", "measured.cif": "m"})
    assert list(texts) == ["measured", "relaxed", "designed"]
    names = [d.filename for d in downloads(3, "../<Mg>O (x", texts)]
    assert names == [f"trial-3-MgO-{kind}.cif" for kind in texts]
    crystal = read_crystal(cifs(trial["design"], crystals.campaign.artifacts(0)))
    assert crystal.formula == "MgO"
    assert "(225)" in crystal.group
    assert "4.250" in crystal.lines[0]
    assert crystal.note == "relaxing changed the volume by +3.6 %"
    assert read_crystal({"designed": "nonsense"}) is None


# Calibration


def _record(errors, sd=1.0):
    n = len(errors)
    zero = np.zeros(n)
    return Record("a", list(range(n)), zero, zero, np.array(errors), np.full(n, sd), zero + 2)


def test_verdicts_on_intervals():
    rng = np.random.default_rng(0)
    assert _record(rng.normal(size=40)).verdict() == "fit"
    assert _record(3 * rng.normal(size=40)).verdict() == "narrow"
    assert _record(0.1 * rng.normal(size=40)).verdict() == "wide"
    assert _record([9.0] * 5).verdict() == "few"
    assert _record([0.5, 1.0, 3.0]).covered(80) == 2
    assert _record([1.0, -3.0]).mean_error == 2.0


def test_the_guess_knows_only_what_had_ended(crystals):
    records = {r.metric: r for r in track_records(read_facts(crystals.campaign))}
    record = records["bulk_modulus"]
    assert record.rows == list(range(4, 10))
    frame = crystals.campaign.trials()
    assert record.guess[0] == pytest.approx(frame["bulk_modulus"].iloc[:4].mean())
    assert record.guess[-1] == pytest.approx(frame["bulk_modulus"].iloc[:9].mean())


def test_every_method_is_said_in_words() -> None:
    """Whatever an acquisition calls a design's method, the report has words for it."""
    from loop.acquisition import STRATEGIES, WITHOUT_SURROGATE
    from tests.loop.designs import ONE, TWO, bump, prepare, two

    names = {"prior", "PF", "qLogPF", "EUI", "straddle", "qLogNParEGO", *WITHOUT_SURROGATE}
    for strategy in STRATEGIES:
        if strategy in (*WITHOUT_SURROGATE, "level-set"):
            continue
        for objectives, function in ((ONE, bump), (TWO, two)):
            acquisition = prepare(objectives, function, n=6, strategy=strategy)
            names |= {acquisition.name(turn) for turn in range(6)}
    assert names >= {"UCB 1.5", "UCB 0.25", "UCB-HVI 1.5", "LogEI", "LogEHVI", "qLogNEHVI", "mean"}
    for name in names:
        said = words.method(name)
        assert said != name
        assert " " in said
    assert words.method("UCB-HVI 1.5") == (
        "chosen by the hypervolume it would bring if it came out 1.5 standard deviations better "
        "than expected (UCB-HVI 1.5)"
    )
    assert words.method("UCB 1") == (
        "chosen by the value it would bring if it came out 1 standard deviation better than "
        "expected (UCB 1)"
    )
    assert words.method("by another package") == "by another package"
