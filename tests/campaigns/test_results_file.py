"""Results files: what is read, and that everything wrong is named, by row and column, at once."""

import json
import pickle
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaigns.cif_file import read_cif
from campaigns.errors import InputErrors
from campaigns.results_columns import header
from campaigns.results_file import MOST_BYTES, read_results

UNITS = {"density": "g/cm^3", "bulk_modulus": "GPa", "melting": "K"}
TRIALS = {1, 2, 3, 4}


def outcome(call, *args):
    """What a call gives, or the errors in its input; anything else that it raises is a failure."""
    try:
        return call(*args)
    except InputErrors as error:
        return error


@pytest.fixture
def read(tmp_path):
    def read_text(text, name="results.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_results(path, trials=TRIALS, units=UNITS)

    return read_text


@pytest.fixture
def wrong(read, tmp_path):
    """What is wrong with a text: (place without the path, what, hint)."""

    def problems(text, name="results.csv"):
        with pytest.raises(InputErrors) as error:
            read(text, name)
        assert error.value.unchanged == "the campaign: nothing was taken in"
        path = str(tmp_path / name)
        return [
            (p.where.removeprefix(path).lstrip(", "), p.what, p.hint or "")
            for p in error.value.problems
        ]

    return problems


def test_readings_that_were_repeated_have_a_mean_and_its_error(read, wrong):
    csv_rows = "trial,density (kg/m^3),melting\n1,3100;3300; 3200,1000\n2,3000;3000,\n"
    rows = [
        {"trial": 1, "density (kg/m^3)": [3100, 3300, 3200], "melting": 1000},
        {"trial": 2, "density (kg/m^3)": [3000, 3000]},
    ]
    for text, name in ((csv_rows, "results.csv"), (json.dumps(rows), "results.json")):
        first, single, second = read(text, name)
        assert (first.mean, first.sem) == pytest.approx((3.2, 0.1 / 3**0.5))
        assert first.repeats == pytest.approx((3.1, 3.3, 3.2))
        assert first.raw == pytest.approx((3200, "kg/m^3"))
        assert (single.mean, single.sem, single.repeats) == (1000, None, ())
        assert (second.mean, second.sem) == (3.0, None)  # as rounded: no reading is exact
    assert first.key != read("trial,density\n1,3.2\n")[0].key
    for cell, what in (
        ("3;", "two or more, and none is missing"),
        ("3;x;4", "'x' is not a number"),
        ("3;4,5", "has a comma"),
        ("1e308;1e308", "too large for a mean"),
    ):
        assert any(what in told for _, told, _ in wrong(f'trial,density\n1,"{cell}"\n'))
    ((place, what, _),) = wrong("trial,density,density_sem\n1,3;4,1\n")
    assert (place, "of their own" in what) == ("row 2, column density_sem", True)
    assert "two or more" in wrong('[{"trial": 1, "density": [3]}]', "results.json")[0][1]


def test_a_csv_with_everything(read):
    readings = read(
        "trial,density (kg/m^3),density_sem,melting [degC],melting_sem,status,reason,source\n"
        "1,3200,10,20,1,,,lab 2\n"
        "2,,,,,failed,it melted,\n"
        "3,,,,,,,\n"
        "\n"
        "4.0,,,1e2,,completed,,\n"
    )
    density, melting, failed, other = readings
    assert (density.trial, density.metric, density.unit, density.row) == (1, "density", "g/cm^3", 2)
    assert (density.mean, density.sem, density.source) == (3.2, 0.01, "lab 2")
    assert melting.mean == pytest.approx(293.15)
    assert melting.sem == pytest.approx(1.0)
    assert (failed.trial, failed.status, failed.reason, failed.mean) == (
        2,
        "failed",
        "it melted",
        None,
    )
    assert (other.trial, other.row, other.sem) == (4, 6, None)


@pytest.mark.parametrize(
    "text",
    [
        "\ufefftrial,density\r\n1,3.2\r\n",
        "trial;density\n1;3.2\n",
        "trial\tdensity\n1\t3.2",
        "sep=;\ntrial;density\n1;3.2\n",
        'trial,"density (g/cm^3)",\n"1",3.2,\n,,\n',
        "\n\nTrial, density \n 1 , 3.2 \n",
    ],
)
def test_dialects_of_csv(read, text):
    (reading,) = read(text)
    assert (reading.trial, reading.metric, reading.mean) == (1, "density", 3.2)


@pytest.mark.parametrize("wrap", [False, True])
def test_json(read, wrap):
    rows = [
        {"trial": 1, "density": {"mean": 3200, "sem": 1, "unit": "kg/m^3"}, "melting": 300},
        {"trial": 2, "status": "failed", "reason": "it melted"},
        {"trial": 3, "density": 3.1, "density_sem": 0.2, "bulk_modulus": None},
    ]
    density, melting, failed, other = read(
        json.dumps({"results": rows} if wrap else rows), "results.json"
    )
    assert (density.mean, density.sem) == (3.2, 0.001)
    assert melting.mean == 300.0
    assert failed.reason == "it melted"
    assert (other.mean, other.sem, other.row) == (3.1, 0.2, 3)


def test_the_header_offered_is_one_that_is_read(read):
    names = header(UNITS)
    row = ["1", "3", "0.1", "100", "", "300", "", "", "", "x"]
    assert len(read(f"{','.join(names)}\n{','.join(row)}\n")) == 3


@pytest.mark.parametrize(
    ("text", "place", "what", "hint"),
    [
        ("density\n3\n", "row 1", "no column trial", ""),
        ("trial,density\n,3\n", "row 2, column trial", "missing", ""),
        ("trial,density\n9,3\n", "row 2, column trial", "no trial 9", "1 to 4"),
        ("trial,density\n1.5,3\n", "row 2, column trial", "'1.5' is not the number", ""),
        (
            "trial,density\n1,nan\n",
            "row 2, column density",
            "not a finite number",
            "failed in column",
        ),
        ("trial,density\n1,inf\n", "row 2, column density", "not a finite number", ""),
        ("trial,density\n1,failed\n", "row 2, column density", "not a number", "failed in column"),
        ("trial;density\n1;3,2\n", "row 2, column density", "a comma", ""),
        ("trial,density\n1,3,2\n", "row 2", "wanted 2 cells", "decimal comma"),
        ("trial,density,melting\n1,3\n", "row 2", "wanted 3 cells", ""),
        ("trial,density\n1,1e400\n", "row 2, column density", "too large", ""),
        ("trial,density\n1,3 g/cm3\n", "row 2, column density", "not a number", "density (g/cm^3)"),
        ("trial,density\n1,=1+1\n", "row 2, column density", "not a number", ""),
        ("trial,densty\n1,3\n", "row 1, column 2", "unknown column 'densty'", "'density'"),
        ("trial,density,other\n1,3,4\n", "row 1, column 3", "unknown column 'other'", ""),
        ("trial,density,density\n1,3,3\n", "row 1, column 3", "second column", ""),
        ("trial,density (GPa)\n1,3\n", "row 1, column 2", "density is in g/cm^3", "give it in"),
        ("trial,density (g/cmm^3)\n1,3\n", "row 1, column 2", "not a unit", ""),
        ("trial,density\n1,3\n1,3\n", "row 3", "trial 1 has density twice", "row 2"),
        ("trial,density,status\n1,3,\n1,,failed\n", "row 3", "yet it has values in row 2", ""),
        ("trial,density,status\n1,3,failed\n", "row 2, column status", "yet it has values", ""),
        ("trial,density,status\n1,,completed\n", "row 2, column status", "no value", ""),
        ("trial,density,status\n1,3,fail\n", "row 2, column status", "not the status", "'failed'"),
        ("trial,density,reason\n1,3,melted\n", "row 2, column reason", "did not fail", ""),
        ("trial,density,density_sem\n1,3,-1\n", "row 2, column density_sem", "negative", ""),
        ("trial,density_sem\n1,1\n", "row 2, column density_sem", "no value of density", ""),
        ('trial,density\n1,"3\n', "row 2", "not CSV", "quote"),
        ("", "", "holds no results", ""),
        ("trial,density\n", "", "holds no results", ""),
        ("trial,density\n1,\n", "", "holds no results", ""),
        (b"\xff\xfet\x00r\x00", "", "UTF-16", "UTF-8"),
        ("trial,dichte\n1,ü\n".encode("latin-1"), "", "not UTF-8 text (line 2)", "UTF-8"),
        (b"PK\x03\x04\x00\x00", "", "null bytes", ""),
    ],
)
def test_each_mistake_is_named(wrong, text, place, what, hint):
    problems = wrong(text)
    assert any(w == place and what in t and hint in h for w, t, h in problems), problems


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("[{]", "", "not JSON"),
        ("[" * 100_000, "", "not JSON"),
        ('{"trials": []}', "", "not a list of results"),
        ("[5]", "row 1", "not an object"),
        ('[{"trial": true, "density": 1}]', "row 1, column trial", "not the number"),
        ('[{"trial": 1, "density": NaN}]', "row 1, column density", "not a finite number"),
        ('[{"trial": 1, "density": true}]', "row 1, column density", "not a number"),
        ('[{"trial": 1, "density": [1]}]', "row 1, column density", "two or more"),
        ('[{"trial": 1, "density": ' + "9" * 5000 + "}]", "", "not JSON"),
        ('[{"trial": 1, "trial": 2, "density": 3}]', "", "'trial' twice"),
        (
            '[{"trial": 1, "density": {"mean": 1, "value": 2}}]',
            "row 1, column density",
            "unknown key",
        ),
        ('[{"trial": 1, "density": {"mean": 1, "unit": "GPa"}}]', "row 1", "density is in g/cm^3"),
        ('[{"trial": 1, "density": 1, "density (kg/m^3)": 2}]', "row 1", "there twice"),
        ('[{"trial": 1, "density": 1, "source": 5}]', "row 1, column source", "text"),
    ],
)
def test_each_mistake_in_json_is_named(wrong, text, place, what):
    problems = wrong(text, "results.json")
    assert any(w == place and what in t for w, t, _ in problems), problems


def test_all_mistakes_are_named_at_once(wrong):
    problems = wrong("trial;density;densty\n1;3,2;\n9;nan;\n2;1;1;1\n")
    assert len(problems) == 5


def test_a_hopeless_file_is_not_read_to_its_end(wrong):
    problems = wrong("trial,density\n" + "x,y\n" * 100_000)
    assert 200 < len(problems) < 210
    assert "rest was not read" in problems[-1][1]


def test_files_that_are_none(tmp_path):
    with pytest.raises(InputErrors, match="does not exist"):
        read_results(tmp_path / "none.csv", trials=TRIALS, units=UNITS)
    with pytest.raises(InputErrors, match="folder"):
        read_results(tmp_path, trials=TRIALS, units=UNITS)
    big = tmp_path / "big.csv"
    with big.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(InputErrors, match="larger"):
        read_results(big, trials=TRIALS, units=UNITS)
    with pytest.raises(InputErrors, match=r"cannot be read|does not exist"):
        read_results("a\0b", trials=TRIALS, units=UNITS)


def test_pickles_are_not_opened(wrong):
    ((_, what, hint),) = wrong(pickle.dumps(print), "results.pkl")
    assert "not text" in what or "UTF-8" in what
    assert hint


def test_a_key_tells_the_same_result_wherever_it_stands(read):
    (a,) = read("trial,density\n1,3.2\n")
    (b,) = read("trial;density (kg/m^3)\n\n1;3200\n")
    (c,) = read('[{"trial": 1, "density": 3.2}]', "results.json")
    (d,) = read("trial,density\n1,3.3\n")
    (e,) = read("trial,density\n2,3.2\n")
    assert a.key == b.key == c.key
    assert len({a.key, d.key, e.key}) == 3


CELLS = st.sampled_from(
    ["trial", "density", "density (g/cm^3)", "density_sem", "status", "cif", "1", "2", "3.5", "-1",
     "nan", "", "failed", ",", ";", "\n", '"', "1,5", "(", "[", "\t", "é", "{", "}", ":", "null",
     "true"]
)  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(CELLS, max_size=40).map("".join) | st.text(max_size=200) | st.binary(max_size=200),
       st.sampled_from(["r.csv", "r.json"]))  # fmt: skip
def test_garbage_is_an_input_error_or_results(read, text, name):
    if isinstance(text, str):
        text = text.encode("utf-8", "surrogatepass")
    assert str(outcome(read, text, name))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["trial", "density", "mean", "sem", "unit", "status", "cif", "reason", "results"]
            )
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(JSON, max_size=3) | JSON)
def test_any_json_is_an_input_error_or_results(read, data):
    assert str(outcome(read, json.dumps(data), "results.json"))


# Crystals

CIF = """data_x
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt '{group}'
{operations}
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{sites}
"""


def cif(group="F m -3 m", operations="", sites=("Na Na 0 0 0 1", "Cl Cl 0.5 0.5 0.5 1")):
    return CIF.format(group=group, operations=operations, sites="\n".join(sites))


def test_a_crystal_by_hand(read, tmp_path):
    (tmp_path / "nacl.cif").write_text(cif())
    (reading,) = read("trial,density,cif\n1,2.1,nacl.cif\n")
    assert reading.cif == cif()
    crystal = read_cif(tmp_path / "nacl.cif")
    assert crystal.composition.formula == "Na4 Cl4"


def test_a_small_file_of_ten_thousand_sites_is_refused_before_it_is_built(wrong, tmp_path):
    sites = [
        f"X{i} Na {0.011 + i / 70:.4f} {0.02 + i / 90:.4f} {0.03 + i / 99:.4f} 1" for i in range(60)
    ]
    text = cif(sites=sites)
    assert len(text) < 4000
    (tmp_path / "bomb.cif").write_text(text)
    started = time.perf_counter()
    ((place, what, hint),) = wrong("trial,density,cif\n1,2.1,bomb.cif\n")
    assert time.perf_counter() - started < 20
    assert place == "row 2, column cif"
    assert "11,520 sites (60 by 192 symmetry operations)" in what
    assert "P1" in hint


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no crystal"),
        ("data_x\n", "no crystal"),
        ("hello world", "no crystal"),
        (cif() + cif().replace("data_x", "data_y"), "2 crystals"),
        (cif(sites=["Na Na 0 0 0 0.5"]), "partly occupied"),
        (cif(sites=["Na Na a b c 1"]), "no crystal that can be built"),
        (cif().replace("_cell_length_a 5.64", "_cell_length_a 0"), "no crystal that can be built"),
        ("\0", "null bytes"),
    ],
)
def test_cifs_that_are_none(tmp_path, text, what):
    path = tmp_path / "x.cif"
    path.write_text(text)
    with pytest.raises(InputErrors, match=what):
        read_cif(path)


def test_p1_needs_no_operations(tmp_path):
    path = tmp_path / "x.cif"
    sites = [f"X{i} Na {i / 12} 0 0 1" for i in range(12)]
    path.write_text(cif(group="P 1", sites=sites))
    assert len(read_cif(path)) == 12


def test_a_cif_is_beside_the_results(wrong, tmp_path):
    outside = Path(tmp_path).parent / "outside.cif"
    outside.write_text(cif())
    for name in ("../outside.cif", str(outside), "a\\0b"):
        (problem,) = wrong(f"trial,density,cif\n1,2.1,{name}\n")
        assert problem[0] == "row 2, column cif"


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_cifs_are_input_errors_or_crystals(tmp_path, data):
    text = cif()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.text(" \n0_;'\"loopdata.x", max_size=6)) + text[at + 3 :]
    path = tmp_path / "damaged.cif"
    path.write_text(text)
    assert str(outcome(read_cif, path))


def test_text_that_would_steer_a_terminal_is_refused(read, wrong):
    row = {"trial": 1, "status": "failed", "reason": " it\n melted\t"}
    assert read(json.dumps([row]), "results.json")[0].reason == "it melted"
    for text in ("\ud800x", "\x1b[2J", "a\x00b", "\u202e"):
        (place, what, _), *_ = wrong(json.dumps([row | {"reason": text}]), "results.json")
        assert place == "row 1, column reason"
        assert "cannot be shown" in what
        assert what.isprintable()
