"""From the data of a spec file to everything that is wrong with it, in words and with places."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from campaigns.errors import Problem, did_you_mean, quoted
from campaigns.spec_checks import Complaint, Draft, check
from campaigns.spec_models import Part
from campaigns.units import parse_number
from campaigns.yaml_file import Document

# pydantic's kinds of errors, in our words; {x} is from the error's context, {given} the value.
_WORDS = {
    "float_type": "a number was wanted, not {given}",
    "float_parsing": "a number was wanted, not {given}",
    "int_type": "a whole number was wanted, not {given}",
    "int_parsing": "a whole number was wanted, not {given}",
    "int_from_float": "a whole number was wanted, not {given}",
    "finite_number": "a finite number was wanted, not {given}",
    "string_type": "text was wanted, not {given}",
    "bool_type": "true or false was wanted, not {given}",
    "bool_parsing": "true or false was wanted, not {given}",
    "tuple_type": "a list was wanted, not {given}",
    "dict_type": "a mapping (key: value) was wanted, not {given}",
    "model_type": "a mapping (key: value) was wanted, not {given}",
    "model_attributes_type": "a mapping (key: value) was wanted, not {given}",
    "union_tag_invalid": "a mapping (key: value) was wanted, not {given}",
    "union_tag_not_found": "a mapping (key: value) was wanted, not {given}",
    "greater_than": "must be above {gt}, not {given}",
    "greater_than_equal": "must be at least {ge}, not {given}",
    "less_than_equal": "must be at most {le}, not {given}",
    "literal_error": "must be {expected}, not {given}",
    "string_too_short": "is empty or too short",
    "string_too_long": "is longer than {max_length} characters",
}
_NAMES = "names begin with a letter and hold letters, digits and _"


def explain(
    model: type[Part],
    data: Any,
    document: Document,
    environment: Callable[[Draft], Iterable[Complaint]],
) -> list[Problem]:
    """Everything that is wrong with a spec, in the order of the file.

    Args:
        model: The model of a whole spec.
        data: The file's data.
        document: The file, for the places.
        environment: What else to check of what could be read.
    """
    if data is None:
        complaints = [
            Complaint((), "the file is empty", "`matloop init` writes a spec to start from")
        ]
    elif not isinstance(data, dict):
        hint = "a spec begins with a key, as in campaign: my-first"
        complaints = [Complaint((), f"a spec is a mapping, not {_given(data)}", hint)]
    else:
        draft = Draft.of(data)
        complaints = [*_malformed(model, data), *check(draft), *environment(draft)]
    # One place, one complaint of one kind: a union may say the same thing for each of its models.
    found: dict[tuple[tuple[int, int], str], str | None] = {
        (place, what): hint for place, what, hint in document.faults
    }
    found |= {(document.find(c.loc, c.key), c.what): c.hint for c in complaints}
    return [
        Problem(f"{document.path}:{line}:{column}", what, hint)
        for ((line, column), what), hint in sorted(found.items())
    ]


def _malformed(model: type[Part], data: Any) -> Iterator[Complaint]:
    try:
        model.model_validate(data)
    except ValidationError as errors:
        for error in errors.errors(include_url=False):
            if error["type"] != "matloop_parts":
                yield _complaint(model, error)


def _complaint(model: type[Part], error: ErrorDetails) -> Complaint:
    loc, kind, context = error["loc"], error["type"], error.get("ctx", {})
    if kind == "matloop":
        return Complaint((*loc, *context["at"]), context["what"], context["hint"])
    if kind == "missing" and isinstance(loc[-1], int):
        kind, loc = "too_short", loc[:-1]
    if kind == "missing":
        return Complaint(loc[:-1], f"the key {loc[-1]!r} is missing", key=True)
    if kind == "extra_forbidden":
        key = str(loc[-1])
        hint = did_you_mean(key, _keys(model, loc[:-1]))
        return Complaint(loc, f"unknown key {quoted(key)}", hint, key=True)
    if kind == "string_pattern_mismatch":
        if loc == ("campaign",):
            hint = "letters, digits, and . _ - between them"
            return Complaint(loc, f"{_given(error['input'])} cannot name a campaign", hint)
        return Complaint(loc, f"{_given(error['input'])} cannot be a name", _NAMES, key=True)
    if kind in ("too_short", "too_long"):
        return _wrong_length(loc, error)
    given = _given(error["input"])
    limits = {k: f"{v:.10g}" if isinstance(v, float) else v for k, v in context.items()}
    what = _WORDS[kind].format(given=given, **limits) if kind in _WORDS else error["msg"]
    hint = None
    if kind in ("float_type", "int_type") and isinstance(error["input"], str):
        hint = _number_hint(error["input"])
    elif kind == "string_type" and loc[0] == "constraints":
        hint = "as in formation_energy <= -0.3 eV/atom"
    elif kind == "string_type" and isinstance(error["input"], bool | int | float):
        hint = "put quotes around it"
    elif kind == "literal_error":
        known = re.split(r", | or ", context["expected"].replace("'", ""))
        hint = did_you_mean(str(error["input"]), known)
    return Complaint(loc, what, hint)


def _wrong_length(loc: tuple[str | int, ...], error: ErrorDetails) -> Complaint:
    if "range" in loc:
        return Complaint(loc, "a range is two numbers, lowest and highest", "as in [900, 1500]")
    return Complaint(loc, "is empty", "give at least one")


def _number_hint(text: str) -> str | None:
    try:
        parse_number(text)
    except ValueError as error:
        return str(error) if "comma" in str(error) else None
    return "remove the quotes"


def _given(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return quoted(value)


def _keys(model: type[Part], loc: tuple[str | int, ...]) -> list[str]:
    """The keys that are known at a place in a spec."""
    parts = {part.__name__: part for part in _subclasses(Part)}
    current: type[Part] = model
    inside: type[Part] | None = None
    for step in loc:
        if isinstance(step, str) and step in parts:
            # Of a union, pydantic names the model that was tried.
            current, inside = parts[step], None
        elif inside is not None:
            current, inside = inside, None
        elif step in (fields := _fields(current)):
            kinds = [fields[str(step)], *get_args(fields[str(step)])]
            found = [k for k in kinds if isinstance(k, type) and issubclass(k, Part)]
            optional = type(None) in kinds
            if found and (found[0] is kinds[0] or optional):
                current = found[0]
            elif found:
                inside = found[0]
    return list(_fields(current))


def _fields(model: type[Part]) -> dict[str, Any]:
    return {info.alias or name: info.annotation for name, info in model.model_fields.items()}


def _subclasses(model: type[Part]) -> Iterator[type[Part]]:
    for child in model.__subclasses__():
        yield child
        yield from _subclasses(child)
