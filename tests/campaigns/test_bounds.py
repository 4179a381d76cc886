"""Constraints as people write them."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.bounds import Bound, BoundError, Linear, parse_bounds, parse_constraint


def terms(text):
    (stated,) = parse_constraint(text)
    assert isinstance(stated, Linear)
    return dict(stated.terms), stated.op, stated.value, stated.unit


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("x <= 3 GPa", Bound("x", "<=", 3.0, "GPa")),
        ("3 GPa > x", Bound("x", "<=", 3.0, "GPa", strict=True)),
        ("alloy.Fe ≥ 0.2", Bound("alloy.Fe", ">=", 0.2, None)),
        ("x >= -1e-3", Bound("x", ">=", -1e-3, None)),
        ("pool.`band gap` <= 3 eV", Bound("pool.band gap", "<=", 3.0, "eV")),
        ("3 eV >= `band gap (eV)`", Bound("band gap (eV)", "<=", 3.0, "eV")),
        ("`sepal.length`>=2", Bound("sepal.length", ">=", 2.0, None)),
    ],
)
def test_bounds_on_one_name(text, bound):
    assert parse_constraint(text) == (bound,)
    assert parse_bounds(text) == (bound,)


def test_a_name_of_several_words_is_helped():
    with pytest.raises(BoundError, match="a sign is missing") as error:
        parse_constraint("pool.band gap <= 3")
    assert error.value.hint.endswith("`pool.band gap`")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b + c == 1", ({"a": 1, "b": 1, "c": 1}, "==", 1, None)),
        ("a + b = 1", ({"a": 1, "b": 1}, "==", 1, None)),
        ("2*a - b <= 3 K", ({"a": 2, "b": -1}, "<=", 3, "K")),
        ("3 K >= 2*a - b", ({"a": -2, "b": 1}, ">=", -3, "K")),
        ("a <= b", ({"a": 1, "b": -1}, "<=", 0, None)),
        ("a <= 2*(b - (c + 1)/4) + 1", ({"a": 1, "b": -2, "c": 0.5}, "<=", 0.5, None)),
        ("-a + +b >= -2", ({"a": -1, "b": 1}, ">=", -2, None)),
        ("a*3 + m.Fe*2*2 <= 1", ({"a": 3, "m.Fe": 4}, "<=", 1, None)),
        ("a + a - b <= 1", ({"a": 2, "b": -1}, "<=", 1, None)),
        ("t == 1200 K", ({"t": 1}, "==", 1200, "K")),
        ("2*`a b` - p.`c-d` <= 3", ({"a b": 2, "p.c-d": -1}, "<=", 3, None)),
    ],
)
def test_sums(text, expected):
    assert terms(text) == expected
    assert parse_bounds(text) == ()


def test_a_sum_between_two_bounds():
    low, high = parse_constraint("0.2 <= a + b < 1 mm")
    assert (low.op, low.value, low.unit, low.strict) == (">=", 0.2, "mm", False)
    assert (high.op, high.value, high.unit, high.strict) == ("<=", 1.0, "mm", True)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a b <= 1", "between 'a' and 'b' a sign is missing"),
        ("2(a + b) <= 1", "a sign is missing"),
        ("a * b <= 1", "a product of parameters"),
        ("1 / a <= 1", "a division by a parameter"),
        ("a / 0 <= 1", "a division by zero"),
        ("(a + b <= 1", r"a \) is missing"),
        ("a + <= 1", "ends too early"),
        ("a +* b <= 1", r"'\*' cannot stand there"),
        ("a ** 2 <= 1", "cannot stand there"),
        ("f(a) <= 1", "a sign is missing"),
        ("a + b <= 1 Kk", "not a unit|sign is missing"),
        ("a - a <= 1", "says nothing"),
        ("1 <= 2", "a name is missing"),
        ("<= 1", "empty"),
        ("a + b", "no <= or >="),
        ("a == b == c", "same way"),
        ("1 <= a >= b", "same way"),
        ("__import__('os') <= 1", "cannot be in a sum"),
        ("1e400*a <= 1", "too large"),
        ("(" * 50 + "a" + ")" * 50 + " + b <= 1", "too many brackets"),
        ("a + b + " * 200 + "c <= 1", "longer than"),
    ],
)
def test_what_is_no_constraint(text, what):
    with pytest.raises(BoundError, match=what):
        parse_constraint(text)


@given(st.text("ab.cd+-*/()<>=0123456789e K", max_size=40))
def test_any_text_is_read_or_refused(text):
    found = ()
    with contextlib.suppress(BoundError):
        found = parse_constraint(text)
    assert all(math.isfinite(stated.value) for stated in found)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(-9, 9).filter(bool), min_size=2),
    st.sampled_from(["<=", ">=", "=="]),
    st.integers(-99, 99),
)
def test_what_is_written_out_is_read_back(factors, op, value):
    text = " + ".join(f"{factor}*{name}" for name, factor in factors.items())
    assert terms(f"{text} {op} {value}") == (factors, op, value, None)
