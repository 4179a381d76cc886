"""Units: pint's, with the traps closed."""

import math
import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns import units
from campaigns.units import UnitError, check_unit, compatible, convert, convert_spread


@pytest.mark.parametrize(
    ("value", "source", "target", "wanted"),
    [
        (1.0, "g/cm^3", "kg/m^3", 1000.0),
        (3200.0, "kg/m^3", "g/cm^3", 3.2),
        (1.0, "eV/angstrom^3", "GPa", 160.21766208),
        (-0.3, "eV/atom", "meV/atom", -300.0),
        (1.0, "eV/Å^3", "eV/\u212b^3", 1.0),
        (20.0, "degC", "K", 293.15),
        (50.0, "percent", "dimensionless", 0.5),
        (10.0, "min", "s", 600.0),
    ],
)
def test_values_are_converted(value, source, target, wanted):
    assert convert(value, source, target) == pytest.approx(wanted, rel=1e-8)
    assert convert(wanted, target, source) == pytest.approx(value, rel=1e-8)


def test_a_spread_has_no_zero_point():
    assert convert_spread(5.0, "degC", "K") == pytest.approx(5.0)
    assert convert_spread(1.0, "g/cm^3", "kg/m^3") == 1000.0


def test_the_same_unit_changes_nothing():
    assert convert(0.1, "GPa", "GPa") == 0.1


def test_per_atom_is_not_the_same_as_in_all():
    assert not compatible("eV", "eV/atom")
    with pytest.raises(UnitError, match="eV cannot be converted to eV/atom") as error:
        convert(1.0, "eV", "eV/atom")
    assert "per atom" in error.value.hint


def test_the_ampere_is_no_angstrom():
    with pytest.raises(UnitError) as error:
        convert(1.0, "eV/A^3", "GPa")
    assert "ampere" in error.value.hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("gpa", "did you mean 'GPa'?"),
        ("ev/atom", "did you mean 'eV/atom'?"),
        ("GPaa", "did you mean 'GPa'?"),
        ("pH", "dimensionless"),
        ("wt%", "percent"),
        ("dB", "logarithmic"),
        ("", "spelled"),
        ("2 GPa", "GPa"),
        ("9**9**9**9", ""),
        ("m^9^9^9", ""),
        ("m**99999999", ""),
        ("__import__('os').system('true')", ""),
        ("os.system", ""),
        ("(((", ""),
        ("a" * 10_000, ""),
    ],
)
def test_what_is_no_unit_is_refused_at_once(text, hint):
    with pytest.raises(UnitError) as error:
        check_unit(text)
    assert hint in (error.value.hint or "")
    assert error.value.exit_status == 2


@given(st.text(max_size=30) | st.text("()*/^123gGPaeV %m-.", max_size=30))
def test_no_text_breaks_the_unit_parser(text):
    with suppress(UnitError):
        assert check_unit(text) == text.strip()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_written_numbers_come_back(value):
    assert units.parse_number(repr(value)) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1,5", "comma"),
        ("-0,3", "comma"),
        ("1,234.5", "not a number"),
        ("1_000", "not a number"),
        ("nan", "finite"),
        ("-inf", "finite"),
        ("1e999", "too large"),
        ("\u22125", "dash"),
        ("\u0663", "not a number"),
        ("0x10", "not a number"),
        ("", "not a number"),
        ("=1+1", "not a number"),
    ],
)
def test_numbers_are_not_guessed_at(text, says):
    with pytest.raises(ValueError, match=says):
        units.parse_number(text)


def test_quantities():
    assert units.parse_quantity("-0.3 eV/atom") == (-0.3, "eV/atom")
    assert units.parse_quantity("20GPa") == (20.0, "GPa")
    assert units.parse_quantity(" 7 ") == (7.0, None)
    with pytest.raises(ValueError, match="comma"):
        units.parse_quantity("1,5 GPa")
    with pytest.raises(UnitError):
        units.parse_quantity("1 GPb/zz")


@given(st.text(max_size=30))
def test_no_text_breaks_the_quantity_parser(text):
    with suppress(ValueError, UnitError):
        value, _ = units.parse_quantity(text)
        assert math.isfinite(value)


def test_pint_is_imported_late():
    code = "import sys, campaigns.units; assert 'pint' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
