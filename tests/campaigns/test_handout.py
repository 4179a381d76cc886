"""What goes to a laboratory, and what may come back in its table."""

from __future__ import annotations

import csv

import pytest

from campaigns.errors import InputErrors, MatloopError, UsageError
from campaigns.handout import hand_out, known_columns, prepare
from campaigns.results_file import read_results
from campaigns.spec import Spec

SPEC = {
    "campaign": "lab",
    "space": {
        "crystal": {"latent": "crystals"},
        "temperature": {"range": [300, 1500], "unit": "K"},
        "gas": {"choice": ["air", "argon"]},
        "size": {"choice": [1, 2.5]},
    },
    "objectives": {"bulk_modulus": {"goal": "maximize", "unit": "GPa"}},
    "evaluate": {"with": "lab"},
}


def trial(index, name="MgO (Fm-3m, 2 atoms)", **more):
    design = {"crystal": {"cif": f"data_{index}\n"}, "temperature": 900.123456789, "gas": "air"}
    return {"trial": index, "name": name, "design": design | {"size": 1} | more}


@pytest.fixture
def spec():
    return Spec.model_validate(SPEC)


@pytest.fixture
def handed_out(spec, tmp_path):
    """A handout of two trials, and how its table is read again."""
    trials = [trial(0), trial(3, 'a, "b"', gas="argon", size=2.5)]
    files = hand_out(spec, trials, prepare(tmp_path / "batch"))

    def read(change=lambda text: text):
        files.table.write_text(change(files.table.read_text()))
        known = known_columns(spec, [(t["trial"], t["name"], t["design"]) for t in trials])
        return read_results(files.table, trials={0, 3}, units=spec.metric_units(), known=known)

    return files, read


def test_each_crystal_is_a_cif_file(handed_out):
    files, _ = handed_out
    assert {t: [p.name for p in paths] for t, paths in files.crystals.items()} == {
        0: ["trial-0.cif"], 3: ["trial-3.cif"],
    }  # fmt: skip
    assert files.crystals[3][0].read_text() == "data_3\n"


def test_two_crystals_of_one_trial_are_two_files(tmp_path):
    spec = SPEC | {"space": SPEC["space"] | {"substrate": {"latent": "crystals"}}}
    one = trial(0, substrate={"cif": "data_s\n"})
    files = hand_out(Spec.model_validate(spec), [one], tmp_path)
    assert [p.name for p in files.crystals[0]] == ["trial-0-crystal.cif", "trial-0-substrate.cif"]


def test_the_table_shows_what_to_make_and_what_to_fill_in(handed_out):
    files, _ = handed_out
    with files.table.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == [
        "trial", "name", "temperature (K)", "gas", "size", "bulk_modulus (GPa)",
        "bulk_modulus_sem (GPa)", "status", "reason", "source",
    ]  # fmt: skip
    assert rows[1] == ["3", 'a, "b"', "900.1235", "argon", "2.5", "", "", "", "", ""]


def test_a_table_filled_in_is_read(handed_out):
    _, read = handed_out
    (reading,) = read(lambda text: text.replace("argon,2.5,,,", "argon,2.5,180,2,"))
    assert (reading.trial, reading.mean, reading.sem) == (3, 180.0, 2.0)


def test_digits_that_a_spreadsheet_cuts_off_are_no_change(handed_out):
    _, read = handed_out
    change = {"900.1235": "900.1", "argon,2.5,,,": "argon,2.50,180,,", "Fm-3m, 2": "Fm-3m,  2"}

    def cut(text):
        for before, after in change.items():
            text = text.replace(before, after)
        return text

    assert len(read(cut)) == 1


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("900.1235,argon", "905,argon", "trial 3 has temperature 900.1235, the file says '905'"),
        ("900.1235,argon", '"900,1",argon', "the file says '900,1'"),
        ("argon", "air", "trial 3 has gas 'argon', the file says 'air'"),
        ("MgO (Fm", "CaO (Fm", "trial 0 has name"),
        ("temperature (K)", "temperature (degC)", "temperature is in K, not in degC"),
        ("temperature (K)", "pressure (K)", "unknown column 'pressure (K)'"),
        ("gas,", "gas (K),", "gas is in no unit"),
    ],
)
def test_a_table_that_says_something_else_is_refused(handed_out, before, after, told):
    _, read = handed_out

    def change(text):
        assert before in text
        text = text.replace(before, after, 1)
        return text.replace("2.5,,,", "2.5,180,,")

    with pytest.raises(InputErrors) as caught:
        read(change)
    assert told in " ".join(str(p) for p in caught.value.problems)


def test_a_table_that_may_be_filled_in_is_not_overwritten(handed_out):
    files, _ = handed_out
    with pytest.raises(UsageError, match=r"there is a candidates\.csv already"):
        prepare(files.table.parent)


def test_a_folder_that_cannot_be_is_found_out_before_anything_is_proposed(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MatloopError, match="cannot be written"):
        prepare(tmp_path / "file" / "batch")


def test_where_writing_fails_the_trials_can_be_had_again(spec, tmp_path):
    with pytest.raises(MatloopError) as caught:
        hand_out(spec, [trial(0)], tmp_path / "gone")
    assert "matloop propose lab --waiting --out DIR" in caught.value.hint
