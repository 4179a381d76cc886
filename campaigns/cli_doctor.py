"""The command `matloop doctor`: whether what a campaign needs is here, found out by using it."""

from __future__ import annotations

import importlib
import importlib.util
import io
import logging
import os
import platform
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import typer

from campaigns import __version__
from campaigns.cli_options import Db, Json
from campaigns.cli_output import begin, current
from campaigns.errors import MatloopError

Verdict = Literal["ok", "broken", "absent"]

# What is imported of a distribution, where it is not its name.
_MODULES = {
    "ax-platform": "ax",
    "pillow": "PIL",
    "ruamel-yaml": "ruamel.yaml",
    "scikit-learn": "sklearn",
}
_OPTIONAL = {
    "psycopg": ("psycopg", "lab", "campaigns in PostgreSQL"),
    "gpaw": ("gpaw", "dft", "DFT"),
    "sevenn": ("sevenn", "sevennet", "the potential SevenNet"),
    "atomate2": ("atomate2", "workflows", "DFT workflows"),
    "dask-jobqueue": ("dask_jobqueue", "cluster", "workers on a cluster"),
    "baybe": ("baybe", "benchmarks", "comparison with BayBE"),
    "bofire": ("bofire", "benchmarks", "comparison with BoFire"),
}
_ROOM = 2**30
_MGO_ENERGY, _MGO_DENSITY = -3.06, 3.47  # eV/atom, g/cm^3


@dataclass(frozen=True)
class Check:
    """What was found of one thing.

    Attributes:
        name: The thing.
        verdict: ok; broken (campaigns will fail); absent (not needed, or not yet).
        told: What was found.
        hint: What would help.
        seconds: That it took.
    """

    name: str
    verdict: Verdict
    told: str
    hint: str | None = None
    seconds: float = 0.0


def doctor(db: Db = None, json: Json = False) -> None:
    """Check this installation by using it.

    Packages are imported, the generators draw designs, the potential is tested, the database is
    read. What is not needed may be absent.
    """
    out = begin("doctor", json)
    checks = []
    for check in _checks(db):
        out.note(_line(check))
        checks.append(check)
    broken = [check.name for check in checks if check.verdict == "broken"]
    told = f"broken: {', '.join(broken)}" if broken else "all that campaigns need is here"
    out.result({"healthy": not broken, "checks": [asdict(check) for check in checks]}, told)
    if broken:
        raise typer.Exit(1)


def _line(check: Check) -> str:
    mark = {"ok": "ok    ", "broken": "BROKEN", "absent": "-     "}[check.verdict]
    hint = f" ({check.hint})" if check.hint else ""
    return f"{mark}  {check.name}: {check.told}{hint}"


def _checks(db: str | None) -> Iterator[Check]:
    from campaigns.spec_environment import generator_names

    yield _tried("matloop", _matloop)
    yield _tried("machine", _machine)
    packages = [_tried(name, partial(_package, name)) for name in _required()]
    yield from (check for check in packages if check.verdict != "ok")
    told = ", ".join(f"{check.name} {check.told}" for check in packages if check.verdict == "ok")
    yield Check("packages", "ok", told, seconds=round(sum(c.seconds for c in packages), 2))
    yield _tried("torch device", _device)
    names = generator_names()
    if not names:
        hint = "reinstall matloop"
        yield Check("generators", "broken", "none is installed", hint)
    for name in names:
        yield _tried(f"generator {name}", partial(_generator, name))
    yield _tried("potential chgnet", _potential)
    yield _tried("database", partial(_database, db))
    for name, (module, extra, what) in _OPTIONAL.items():
        yield _optional(name, module, extra, what)


def _tried(name: str, check: Callable[[], tuple[str, Verdict] | str]) -> Check:
    began = time.monotonic()
    verdict: Verdict
    try:
        with _quiet():
            found = check()
    except MatloopError as error:
        return Check(name, "broken", f"{error.what}: {error.why}", error.hint)
    # Whatever a broken installation raises is what was to be found out.
    except Exception as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        if current().debug:
            raise
        return Check(name, "broken", line[:300], "--debug shows where")
    told, verdict = found if isinstance(found, tuple) else (found, "ok")
    return Check(name, verdict, told, seconds=round(time.monotonic() - began, 2))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep libraries from telling of their own troubles, of which most are none."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    heard = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(heard), redirect_stderr(heard):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _matloop() -> str:
    return f"{__version__}, Python {platform.python_version()} ({sys.executable})"


def _machine() -> str:
    import psutil

    memory = psutil.virtual_memory()
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    return (
        f"{platform.system()} {platform.machine()}, {_cores()} cores, "
        f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB of memory free, "
        f"OMP_NUM_THREADS {threads}"
    )


def _cores() -> int:
    """Cores that this process may use, which in a container are fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _required() -> list[str]:
    """The distributions that matloop needs."""
    lines = [line for line in metadata.requires("matloop") or () if "extra ==" not in line]
    names = (re.split(r"[\s\[<>=!~;]", line, maxsplit=1)[0] for line in lines)
    return sorted(name.replace(".", "-") for name in names)


def _package(name: str) -> str:
    # matgl and matcalc ask a model hub for its list when they are imported together.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    version = metadata.version(name)
    module = _MODULES.get(name, name.replace("-", "_"))
    importlib.import_module(module)
    return version


def _device() -> str:
    # By name: campaigns compute nothing with torch.
    torch: Any = importlib.import_module("torch")
    found = [f"cpu with {torch.get_num_threads()} threads"]
    for name, there in (
        ("cuda", torch.cuda.is_available),
        ("mps", torch.backends.mps.is_available),
    ):
        if there():
            probe = torch.ones(8, 8, device=name)
            if float((probe @ probe).sum()) != 512.0:
                raise ValueError(f"{name} computes wrongly")
            what = torch.cuda.get_device_name() if name == "cuda" else "Apple's GPU"
            found.append(f"{name} ({what})")
    return ", ".join(found) + "; campaigns use the cpu"


def _generator(name: str) -> str:
    from campaigns.spec_environment import load_latent

    generator = load_latent(name)
    designs = [d for d in generator.sample(4, seed=0) if d is not None]
    if not designs:
        raise ValueError("four draws gave no design")
    return f"version {generator.version}, draws such as {generator.describe(designs[0])}"


def _potential() -> str:
    """Relax rock salt, whose energy and density by CHGNet are known."""
    from pymatgen.core import Lattice, Structure

    from loop.evaluators import make_evaluator

    crystal = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.3), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    design = {"crystal": {"cif": crystal.to(fmt="cif")}}
    evaluator = make_evaluator({"with": "potential", "model": "chgnet"})
    found = evaluator.evaluate(design, ["formation_energy", "density"], 0)
    energy, density = (found.measurements[m].mean for m in ("formation_energy", "density"))
    told = f"MgO has {energy:.2f} eV/atom and {density:.2f} g/cm^3 by it"
    if abs(energy - _MGO_ENERGY) > 0.02 or abs(density - _MGO_DENSITY) > 0.02:
        raise ValueError(f"{told}, and should have {_MGO_ENERGY} and {_MGO_DENSITY}")
    return f"{told}, as it should, in {found.seconds:.1f} s"


def _database(db: str | None) -> tuple[str, Verdict]:
    from campaigns.campaign import Campaign
    from campaigns.cli_tables import plural
    from campaigns.store import Store
    from campaigns.store.store import default_url

    url = db or default_url()
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        folder = Path(url.removeprefix("sqlite:///")).absolute().parent
        if not folder.is_dir():
            raise MatloopError("no database", why=f"there is no folder {folder}", hint="--db")
        return f"none at {url} yet: `matloop run` makes it; {_room(folder)}", "absent"
    store = Store(url, create=False)
    names = Campaign.names(url)
    room = f"; {_room(store.path.parent)}" if store.path else ""
    store.close()
    return f"{store.where}: intact, {plural(len(names), 'campaign')}{room}", "ok"


def _room(folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    if free < _ROOM:
        raise MatloopError(
            "the disk is almost full", why=f"{free / 2**20:.0f} MiB are free in {folder}"
        )
    return f"{free / 2**30:.1f} GiB of disk free"


def _optional(name: str, module: str, extra: str, what: str) -> Check:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(f"{name}, for {what}", "absent", "not installed",
                     f"pip install 'matloop[{extra}]'")  # fmt: skip
    found = importlib.util.find_spec(module)
    return Check(f"{name}, for {what}", "ok" if found else "broken", version)
