"""Errors: what a person reads, what a program reads, and that they travel."""

import json
import pickle

import pytest

from campaigns.errors import (
    InputErrors,
    MatloopError,
    Problem,
    UsageError,
    did_you_mean,
    quoted,
)


def test_an_error_says_all_it_knows():
    error = MatloopError(
        "the disk is full",
        where="matloop.db",
        why="no space",
        unchanged="the store",
        hint="tidy up",
    )
    assert str(error).splitlines() == [
        "the disk is full",
        "  where: matloop.db",
        "  why: no space",
        "  unchanged: the store",
        "  hint: tidy up",
    ]
    assert str(MatloopError("only this")) == "only this"


def test_exit_statuses():
    assert MatloopError("x").exit_status == 1
    assert UsageError("x").exit_status == 2
    assert InputErrors([Problem("a:1", "x")]).exit_status == 2


def test_errors_for_json_are_plain_data():
    error = InputErrors([Problem("a:1", "x", "y"), Problem("a:2", "z")], "a", "the campaign")
    data = json.loads(json.dumps(error.as_dict()))
    assert data["error"] == "InputErrors"
    assert data["exit_status"] == 2
    assert data["unchanged"] == "the campaign"
    assert data["problems"][0] == {"where": "a:1", "what": "x", "hint": "y"}
    assert json.loads(json.dumps(MatloopError("w", hint="h").as_dict()))["hint"] == "h"


def test_one_problem_reads_like_any_error_and_many_are_listed():
    one = InputErrors([Problem("a:1:2", "x", "y")])
    assert str(one) == "x\n  where: a:1:2\n  hint: y"
    many = InputErrors([Problem(f"a:{i}", "x") for i in range(70)], "a")
    lines = str(many).splitlines()
    assert lines[0] == "70 things are wrong in a"
    assert lines[1] == "  a:0: x"
    assert lines[-1] == "  ... and 20 more"
    assert len(many.problems) == 70


@pytest.mark.parametrize(
    "error",
    [
        MatloopError("w", where="here", why="so", unchanged="all", hint="h"),
        UsageError("w", hint="h"),
        InputErrors([Problem("a:1", "x", "y"), Problem("a:2", "z")], "a", "the campaign"),
    ],
)
def test_errors_travel_between_processes(error):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.as_dict() == error.as_dict()


def test_hints_name_the_nearest_word_or_all_of_a_few():
    assert did_you_mean("densty", ["density", "energy"]) == "did you mean 'density'?"
    assert did_you_mean("gpa", ["MPa", "GPa"]) == "did you mean 'GPa'?"
    assert did_you_mean("zzz", ["a", "b"]) == "one of: a, b"
    assert did_you_mean("zzz", [str(i) for i in range(100, 120)]) is None
    assert did_you_mean("zzz", []) is None


def test_quoted_values_cannot_fill_or_fool_a_terminal():
    assert "\x1b" not in quoted("\x1b[2J")
    assert "\n" not in quoted("a\nb")
    assert len(quoted("x" * 10**6)) < 70
