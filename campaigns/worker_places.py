"""Where a worker evaluates, and what it lets a server make it evaluate."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from campaigns.errors import MatloopError, UsageError, quoted
from campaigns.leases import Lease

if TYPE_CHECKING:
    from loop.executor import Outcome

HARMLESS = ("potential", "dft")
"""The evaluators that a server may choose freely, unless one of `CODE` is in their settings."""

CODE = frozenset({"calculator", "import", "function", "command"})
"""Settings that name code or a program to run."""

_TIME_LIMIT, _MEMORY_LIMIT = "10 min", "4 GiB"
_SHARED = ("workers", "time_limit", "memory_limit", "time_limit_s", "memory_limit_bytes")


class Pool(Protocol):
    """What `loop.executor.LocalPool` and `loop.executors.ExecutorPool` have in common."""

    def check(self, metrics: Sequence[str], fidelities: Sequence[str] = ()) -> None:
        """Test the evaluator."""

    def submit(self, key: str, payload: Mapping[str, Any]) -> None:
        """Start a trial."""

    def cancel(self, key: str) -> None:
        """End a trial."""

    def running(self) -> list[str]:
        """The keys of the trials under way."""

    def wait(self, timeout: float) -> list[Outcome]:
        """The trials that ended."""

    def finished(self, keys: Sequence[str]) -> list[Outcome]:
        """What is on disk."""

    def close(self) -> None:
        """End everything."""


@dataclass(frozen=True)
class Task:
    """What a worker runs for a lease.

    Attributes:
        config: The evaluator, as `loop.evaluators.make_evaluator` takes it.
        time_limit: Seconds.
        memory_limit: Bytes.
        at_fidelity: Whether the evaluator is to be told the trial's fidelity.
    """

    config: dict[str, Any]
    time_limit: float
    memory_limit: int
    at_fidelity: bool = True


def own_task(path: Path) -> Task:
    """The evaluator of a spec of the worker's owner.

    Raises:
        InputErrors: The spec has mistakes.
        UsageError: It is answered by people.
    """
    from campaigns.spec import load_spec

    spec = load_spec(path)
    if spec.evaluate.with_ == "lab":
        raise UsageError(
            "`evaluate: {with: lab}` gives a worker nothing to run",
            where=str(path),
            hint="name an evaluator: {with: python, function: 'file.py:function'}",
        )
    evaluate = spec.evaluate
    return Task(spec.evaluator_config(), evaluate.seconds(), evaluate.memory_bytes())


def served_task(lease: Lease, allow_python: bool) -> Task:
    """The evaluator that came with a lease.

    Raises:
        UsageError: The worker's owner did not allow it.
    """
    from campaigns.spec_models import memory_bytes, seconds

    told, at_fidelity = dict(lease.evaluate), True
    if told.get("with") == "each":
        # The one of this trial's fidelity, which then knows of no other.
        limits = {key: told[key] for key in _SHARED if key in told}
        told = limits | dict(told["each"].get(lease.fidelity) or {"with": "lab"})
        at_fidelity = False
    kind = told.get("with")
    if kind == "lab" or not kind:
        at = f" at {lease.fidelity}" if lease.fidelity else ""
        raise UsageError(
            f"campaign {lease.campaign} is answered by a laboratory{at}: there is nothing to run",
            where="evaluate",
            unchanged="the campaign; its trials were handed back",
            hint="--fidelity with one that a program answers, --spec FILE with an evaluator of "
            "yours, or `matloop watch` for a folder of CSV",
        )
    if not allow_python and (kind not in HARMLESS or _names_code(told)):
        raise UsageError(
            f"the server wants `with: {kind}`, with code, commands or files that it names",
            where="evaluate",
            unchanged="nothing was run; the trials were handed back",
            hint="--allow-python where you trust whoever wrote the spec, or --spec FILE with yours",
        )
    time_limit = told.get("time_limit_s") or seconds(_TIME_LIMIT)
    memory = told.get("memory_limit_bytes") or memory_bytes(_MEMORY_LIMIT)
    config = {key: value for key, value in told.items() if key not in _SHARED}
    if kind == "python":
        config["metrics"] = lease.units | (config.get("metrics") or {})
    return Task(config, float(time_limit), int(memory), at_fidelity)


def _names_code(settings: Any) -> bool:
    """Whether one of `CODE` is anywhere in an evaluator's settings."""
    if isinstance(settings, Mapping):
        return bool(CODE & set(settings)) or any(_names_code(v) for v in settings.values())
    return isinstance(settings, list | tuple) and any(_names_code(item) for item in settings)


PoolMaker = Callable[[Task, Path], Pool]


@contextlib.contextmanager
def place(where: str, workers: int) -> Iterator[PoolMaker]:
    """A place to evaluate in, and how a pool is made there.

    Args:
        where: `local`; `dask:ADDRESS` of a scheduler; or `FILE.py:FUNCTION` or `MODULE:FUNCTION`, a
            function of the worker's owner that returns a `concurrent.futures.Executor`.
        workers: Trials at one time.

    Raises:
        UsageError: There is no such place.
        MatloopError: It does not answer.
    """
    from loop.executor import LocalPool
    from loop.executors import ExecutorPool

    if where == "local":
        yield lambda task, results: LocalPool(
            task.config, workers, task.time_limit, task.memory_limit, results
        )
        return
    with contextlib.ExitStack() as stack:
        executor = _executor(where, stack)
        yield lambda task, results: ExecutorPool(
            executor, task.config, task.time_limit, task.memory_limit, results
        )


def _executor(where: str, stack: contextlib.ExitStack) -> Executor:
    kind, _, rest = where.rpartition(":") if ".py:" in where else where.partition(":")
    if kind == "dask" and rest:
        return _dask(rest, stack)
    if not rest:
        raise UsageError(
            f"{quoted(where)} is no place to evaluate in",
            where="--executor",
            hint="local, dask:tcp://HOST:8786, or FILE.py:FUNCTION that returns an Executor",
        )
    made = _function(kind, rest)()
    if not isinstance(made, Executor):
        raise UsageError(
            f"{where} returned a {type(made).__name__}, not a concurrent.futures.Executor",
            where="--executor",
        )
    stack.callback(made.shutdown, wait=False, cancel_futures=True)
    return made


def _dask(address: str, stack: contextlib.ExitStack) -> Executor:
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(
            "Dask is not installed here",
            where="--executor",
            hint="pip install 'matloop[cluster]'",
        ) from error
    try:
        client = stack.enter_context(Client(address, timeout=30))
    except (OSError, TimeoutError, ValueError) as error:
        raise MatloopError(
            f"there is no Dask scheduler at {address}", where="--executor", why=str(error)
        ) from error
    executor: Executor = client.get_executor(pure=False)
    return executor


def _function(module: str, name: str) -> Callable[[], Any]:
    """A function that the worker's owner named on the command line."""
    try:
        if module.endswith(".py"):
            path = Path(module).expanduser().resolve()
            spec = importlib.util.spec_from_file_location(f"_matloop_{path.stem}", path)
            if spec is None or spec.loader is None:
                raise ImportError(f"{path} is no Python file")
            loaded = importlib.util.module_from_spec(spec)
            sys.modules[loaded.__name__] = loaded
            spec.loader.exec_module(loaded)
        else:
            loaded = importlib.import_module(module)
        function: Callable[[], Any] = getattr(loaded, name)
    except (ImportError, AttributeError, OSError) as error:
        raise UsageError(
            f"{module} has no function {name} that can be imported",
            where="--executor",
            why=str(error),
        ) from error
    return function
