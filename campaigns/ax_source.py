"""An Ax 1.x experiment from wherever Ax saved it: a JSON file, or Ax's tables in a database.

Nothing is unpickled. Ax's loader makes only classes that Ax has registered, but it hands the text
of objectives, constraints and derived parameters to SymPy, which evaluates it as Python; here such
text must be arithmetic first.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from campaigns.errors import MatloopError, UsageError, did_you_mean, quoted

if TYPE_CHECKING:
    from ax.core.experiment import Experiment
    from ax.generation_strategy.generation_strategy import GenerationStrategy
    from sqlalchemy import Engine

LARGEST: Final = 200_000_000
"""Bytes of a file that is read at most."""

_HINT: Final = (
    "it is written by `client.save_to_json_file(FILE)` or `save_experiment(experiment, FILE)`"
)
_SQLITE: Final = b"SQLite format 3\x00"
_TABLES: Final = ("experiment_v2", "trial_v2", "data_v2")
_ALLOWED: Final = (
    ast.Expression, ast.Tuple, ast.BinOp, ast.UnaryOp, ast.Compare, ast.operator, ast.unaryop,
    ast.cmpop, ast.Name, ast.Load, ast.Constant, ast.Call,
)  # fmt: skip
_FUNCTIONS: Final = frozenset(
    {"Abs", "Max", "Min", "abs", "acos", "asin", "atan", "cos", "cosh", "exp", "log", "sin", "sinh"}
    | {"sqrt", "tan", "tanh"}
)


@dataclass(frozen=True)
class AxSource:
    """Where an experiment is.

    Attributes:
        kind: file or database.
        where: The path, or the URL.
        shown: The same for people, without a password.
        name: Of the experiment, where a database holds several.
    """

    kind: str
    where: str
    shown: str
    name: str | None = None

    @classmethod
    def find(cls, given: str, name: str | None = None) -> AxSource:
        """The source that a person means.

        Args:
            given: A file (JSON, or SQLite), or a database's URL.
            name: Of the experiment.

        Raises:
            UsageError: There is no such file, it is too large, or nothing of Ax's.
            MatloopError: The database does not answer.
        """
        if "://" not in given:
            path = Path(given)
            if not path.exists():
                raise UsageError("there is no such file", where=given, hint=_HINT)
            if not path.is_file():
                raise UsageError(
                    "a file was wanted, and something else is there", where=given, hint=_HINT
                )
            size = path.stat().st_size
            with path.open("rb") as file:
                head = file.read(len(_SQLITE))
            if head == _SQLITE:
                return cls.find(f"sqlite:///{path.resolve()}", name)
            if size > LARGEST:
                raise UsageError(
                    "the file is too large to be shown",
                    where=given,
                    why=f"it has {size / 1e6:.0f} MB, and {LARGEST / 1e6:.0f} MB are read at most",
                    hint="keep so large an experiment in a database, and give its URL",
                )
            _parsed(path.read_bytes(), path.name)
            return cls("file", str(path.resolve()), path.name, name)
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            url = make_url(given)
        except ArgumentError as error:
            raise UsageError("this is no database URL", where=quoted(given)) from error
        shown = url.render_as_string(hide_password=True)
        if url.get_backend_name() == "sqlite":
            if not url.database or not Path(url.database).is_file():
                raise UsageError("there is no such file", where=shown, hint=_HINT)
            shown = Path(url.database).name
        source = cls("database", given, shown, name)
        return cls("database", given, shown, source._only(name))

    def _only(self, name: str | None) -> str:
        """The experiment's name: the one that is asked for, or the only one."""
        names = self.names()
        if name is None and len(names) == 1:
            return names[0]
        if name in names and name is not None:
            return name
        if not names:
            raise UsageError("the database has no experiment yet", where=self.shown)
        listed = ", ".join(sorted(names)[:20])
        if name is None:
            raise UsageError(
                f"the database has {len(names)} experiments",
                where=self.shown,
                why=listed,
                hint="choose one with --experiment NAME",
            )
        raise UsageError(
            f"there is no experiment {quoted(name)}",
            where=self.shown,
            why=f"there are {listed}",
            hint=did_you_mean(name, names),
        )

    def names(self) -> list[str]:
        """The experiments of the database.

        Raises:
            UsageError: It is not Ax's.
            MatloopError: It does not answer.
        """
        from sqlalchemy import inspect, text

        with _answers(self.shown), self._engine() as engine, engine.connect() as connection:
            if not set(_TABLES) <= set(inspect(connection).get_table_names()):
                raise UsageError(
                    "this database is not Ax's",
                    where=self.shown,
                    why=f"it lacks the tables {', '.join(_TABLES)}",
                    hint="a matloop campaign is shown by `matloop serve`",
                )
            found = connection.execute(text("SELECT name FROM experiment_v2 ORDER BY id"))
            return [str(row[0]) for row in found]

    def mark(self) -> str:
        """Something that changes whenever the experiment may have changed; cheap.

        Raises:
            MatloopError: It is gone, or does not answer.
        """
        try:
            if self.kind == "file":
                told = os.stat(self.where)
                return f"{told.st_mtime_ns}-{told.st_size}-{told.st_ino}"
        except OSError as error:
            raise MatloopError(
                "the file is gone", where=self.shown, why=error.strerror or str(error)
            ) from error
        from sqlalchemy import text

        counts = "SELECT count(*), max(id) FROM "
        asked = [counts + table for table in (*_TABLES, "generator_run_v2")]
        asked += ["SELECT status, count(*) FROM trial_v2 GROUP BY status ORDER BY status"]
        asked += ["SELECT max(time_completed), max(time_run_started) FROM trial_v2"]
        with _answers(self.shown), self._engine() as engine, engine.connect() as connection:
            rows = [connection.execute(text(query)).fetchall() for query in asked]
        return hashlib.sha256(repr([[tuple(r) for r in of] for of in rows]).encode()).hexdigest()

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        from sqlalchemy import NullPool, create_engine

        engine = create_engine(self.read_only, poolclass=NullPool)
        try:
            yield engine
        finally:
            engine.dispose()

    @property
    def read_only(self) -> str:
        """The URL, by which SQLite will not make or change a file."""
        from sqlalchemy import make_url

        url = make_url(self.where)
        if url.get_backend_name() != "sqlite":
            return self.where
        assert url.database
        return f"sqlite:///file:{quote(str(Path(url.database).resolve()))}?mode=ro&uri=true"

    def load(self) -> tuple[Experiment, GenerationStrategy | None, str]:
        """The experiment, how it goes on where that was saved, and a digest of its content.

        Call it in a process of its own: it imports Ax, and reads what others wrote.

        Raises:
            UsageError: It is no experiment of Ax 1.x.
            MatloopError: It cannot be read.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Ax's, to those who wrote the experiment
            if self.kind == "database":
                _only_arithmetic()
                return (*self._load_database(), self.mark())
            data = Path(self.where).read_bytes()
            return (*_load_json(data, self.shown), hashlib.sha256(data).hexdigest())

    def _load_database(self) -> tuple[Experiment, GenerationStrategy | None]:
        from ax.exceptions.core import ObjectNotFoundError
        from ax.storage.sqa_store.db import init_engine_and_session_factory
        from ax.storage.sqa_store.load import (
            load_experiment,
            load_generation_strategy_by_experiment_name,
        )

        assert self.name is not None
        with _answers(self.shown):
            init_engine_and_session_factory(url=self.read_only, force_init=True)
            try:
                experiment = load_experiment(self.name)
            except Exception as error:
                raise _unreadable(error, self.shown) from error
            try:
                return experiment, load_generation_strategy_by_experiment_name(
                    self.name, experiment=experiment
                )
            except ObjectNotFoundError:
                return experiment, None


def _parsed(data: bytes, shown: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """A file's experiment and generation strategy as JSON; Ax is not needed to see that it is none.

    Raises:
        UsageError: It is none.
    """
    try:
        told = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            "the file is not JSON, or damaged", where=shown, why=str(error)[:200], hint=_HINT
        ) from error
    found = told.get("experiment") if isinstance(told, dict) and "__type" not in told else told
    kinds = ("Experiment", "MultiTypeExperiment")
    if not isinstance(found, dict) or found.get("__type") not in kinds:
        raise UsageError("the file is JSON, but no Ax experiment", where=shown, hint=_HINT)
    strategy = told.get("generation_strategy") if found is not told else None
    return found, strategy if isinstance(strategy, dict) else None


def _load_json(data: bytes, shown: str) -> tuple[Experiment, GenerationStrategy | None]:
    found, strategy = _parsed(data, shown)
    _only_arithmetic()
    from ax.core.experiment import Experiment
    from ax.storage.json_store.decoder import generation_strategy_from_json, object_from_json

    try:
        experiment = object_from_json(found)
        made = None
        if strategy is not None:
            strategy.pop("__type", None)
            made = generation_strategy_from_json(strategy, experiment=experiment)
    except Exception as error:
        raise _unreadable(error, shown) from error
    if not isinstance(experiment, Experiment):
        raise UsageError("the file holds no Ax experiment", where=shown, hint=_HINT)
    return experiment, made


def _unreadable(error: Exception, shown: str) -> MatloopError:
    if isinstance(error, MatloopError):
        return error
    from ax import __version__

    return UsageError(
        "Ax cannot read this experiment",
        where=shown,
        why=f"{type(error).__name__}: {str(error)[:300]}",
        hint=f"it is read by Ax {__version__}; was it written by Ax 1.x, with its own classes?",
    )


@contextmanager
def _answers(shown: str) -> Iterator[None]:
    """Tell of a database's error as a person can use it."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise MatloopError(
            "the database cannot be read", where=shown, why=str(cause).splitlines()[0][:300]
        ) from error


def check_arithmetic(text: str) -> None:
    """Refuse text that is more than arithmetic on names.

    Raises:
        UsageError: It is.
    """
    try:
        tree = ast.parse(text.strip().replace("\n", " "), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError("this is no expression", where=quoted(text)) from error
    for node in ast.walk(tree):
        fine = isinstance(node, _ALLOWED)
        if isinstance(node, ast.Constant):
            fine = isinstance(node.value, int | float | bool)
        elif isinstance(node, ast.Call):
            fine = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow | ast.LShift):
            by = node.right.operand if isinstance(node.right, ast.UnaryOp) else node.right
            # 9**9**9 is arithmetic too, and would take for ever
            fine = isinstance(by, ast.Name) or (
                isinstance(by, ast.Constant) and isinstance(by.value, int | float) and by.value < 99
            )
        if not fine:
            raise UsageError(
                "the expression is more than arithmetic, and is not evaluated",
                where=quoted(text),
                why=f"it has {type(node).__name__}",
            )


def _only_arithmetic() -> None:
    """Let Ax give SymPy only arithmetic, from now on: it parses some text when it is first used."""
    import ax.core.derived_metric
    import ax.core.parameter
    import ax.utils.common.sympy
    import sympy

    def checked(text: Any, *rest: Any, **named: Any) -> Any:
        if isinstance(text, str):
            check_arithmetic(text)
        return sympy.sympify(text, *rest, **named)

    for module in (ax.core.derived_metric, ax.core.parameter, ax.utils.common.sympy):
        vars(module)["sympify"] = checked
