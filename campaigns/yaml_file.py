"""A YAML file as plain data, with the line and column of every key and value.

YAML 1.2, read node by node: no tag builds an object, no alias is followed, `no` is the word "no"
and not False, and a key that comes twice is an error instead of a value lost in silence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campaigns.errors import InputErrors, Problem, quoted
from campaigns.text_file import read_text

Loc = tuple[str | int, ...]
"""Where a value is in the data: keys and indices from the top."""

MOST_BYTES = 256 * 1024

_PREFIX = "tag:yaml.org,2002:"
_PLAIN = ("str", "int", "float", "bool", "null", "timestamp", "merge", "value", "map", "seq")
_INT = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_FLOAT = re.compile(
    r"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
    re.ASCII,
)
_WORDS = {"true": True, "false": False, "null": None}

# What the parser says, and what a person should hear.
_TRANSLATED = (
    (r"\\t", "a tab: YAML is indented with spaces", "replace it by spaces"),
    (
        "mapping values are not allowed",
        "a ':' where none can be",
        "text with ': ' in it needs quotes; keys of one block start in one column",
    ),
    ("another document", "a second document begins ('---')", "one file holds one campaign"),
    ("could not find expected ':'", "a line without ':'", "a key is followed by ': '"),
    (r"<stream end>", "the file ends too early", "is a bracket, brace or quote left open?"),
    (r"expected <block end>", "a line that does not fit in here", "check how far it is indented"),
    (r"expected ',' or", "a ',' or a closing bracket is missing", None),
    (r"found character", "a character that no value can begin with", "put the text in quotes"),
    ("found undefined alias", "'*' stands for an alias in YAML", "put the text in quotes"),
)


@dataclass
class Document:
    """The data of a YAML file and where each part of it stands.

    Attributes:
        path: The file.
        text: What it holds.
        data: dicts, lists, text, numbers, booleans and None.
        keys: Line and column of the key (or list item) at a place, from 1.
        values: Line and column of the value at a place, from 1.
        faults: What is wrong with parts that could be parsed: line and column, what, hint.
    """

    path: Path
    text: str
    data: Any = None
    keys: dict[Loc, tuple[int, int]] = field(default_factory=dict)
    values: dict[Loc, tuple[int, int]] = field(default_factory=dict)
    faults: list[tuple[tuple[int, int], str, str]] = field(default_factory=list)

    def find(self, loc: Sequence[str | int], key: bool = False) -> tuple[int, int]:
        """Line and column of a place in the data.

        Parts of `loc` that the data does not have (a missing key, a model's name) are left out.

        Args:
            loc: Keys and indices from the top.
            key: Whether to point at the key instead of its value.
        """
        found: Loc = ()
        for part in loc:
            if (*found, part) in self.values:
                found = (*found, part)
        return (self.keys if key else self.values).get(found, (1, 1))


def read_yaml(path: str | Path) -> Document:
    """Read a YAML file.

    Raises:
        InputErrors: It is not there, or is not YAML, with line and column. Faults that leave the
            rest readable (a key that comes twice, a tag, an alias) are in `Document.faults`.
    """
    path = Path(path)
    return parse_yaml(read_text(path, MOST_BYTES), path)


def parse_yaml(text: str, path: Path) -> Document:
    """The same for text that is at hand; `path` is what errors name. Raises `InputErrors`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    document = Document(path, text)
    try:
        root = YAML(typ="rt", pure=True).compose(text)
        document.data = None if root is None else _Reader(document).read(root)
    except MarkedYAMLError as error:
        problem = str(error.problem)
        # Of a line without ':' the parser marks the line after it.
        line_before = "expected ':'" in problem and error.context_mark
        mark = line_before or error.problem_mark or error.context_mark
        at = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise InputErrors([Problem(at, *_translate(problem))]) from error
    except RecursionError as error:
        raise InputErrors([Problem(str(path), "the file is nested too deeply")]) from error
    except (YAMLError, ValueError, AttributeError, TypeError) as error:
        # The parser's own slips on malformed text (an odd %YAML line, an odd escape).
        first = " ".join(str(error).split())[:100]
        raise InputErrors([Problem(str(path), f"the file is not YAML: {first}")]) from error
    return document


def _translate(problem: str) -> tuple[str, str | None]:
    for pattern, what, hint in _TRANSLATED:
        if re.search(pattern, problem):
            return what, hint
    return f"not YAML: {problem}", None


class _Reader:
    """Turns parsed nodes into data, and tells the document what is wrong with them."""

    def __init__(self, document: Document) -> None:
        self.document = document

    def read(self, node: Any, loc: Loc = ()) -> Any:
        """The value of a node; None where something is wrong with it."""
        here = _place(node)
        self.document.values[loc] = here
        self.document.keys.setdefault(loc, here)
        tag = str(node.tag).removeprefix(_PREFIX)
        if node.anchor:
            self._wrong(node, "anchors and aliases are not taken", "write the value out")
        elif tag not in _PLAIN:
            self._wrong(node, f"the tag {quoted(str(node.tag))} is not taken", "leave it out")
        elif node.id == "mapping":
            return self._mapping(node, loc)
        elif node.id == "sequence":
            return [self.read(item, (*loc, index)) for index, item in enumerate(node.value)]
        else:
            plain = node.style in (None, "") and tag != "str"
            return _plain_value(node.value) if plain else node.value
        return None

    def _mapping(self, node: Any, loc: Loc) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key_node.id != "scalar":
                self._wrong(key_node, "a list or a mapping cannot be a key", "a key is text")
            elif key == "<<":
                self._wrong(key_node, "merge keys ('<<') are not taken", "write the keys out")
            elif key in values:
                first = self.document.keys[*loc, key][0]
                what = f"the key {quoted(key)} is there twice"
                self._wrong(key_node, what, f"the first is in line {first}")
            else:
                self.document.keys[*loc, key] = _place(key_node)
                values[key] = self.read(value_node, (*loc, key))
        return values

    def _wrong(self, node: Any, what: str, hint: str) -> None:
        self.document.faults.append((_place(node), what, hint))


def _place(node: Any) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _plain_value(text: str) -> Any:
    """What text without quotes stands for: a boolean, nothing, a number or itself."""
    if text in ("", "~"):
        return None
    if text in (text.lower(), text.title(), text.upper()) and text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text
