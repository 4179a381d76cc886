"""The house itself: names, wheel, import order, declared dependencies."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path, PurePosixPath

import pytest

PACKAGES = ("generators", "surrogates", "loop", "campaigns", "dashboards")


def _distribution_of(name: str) -> str:
    """A distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _top_level(file: PurePosixPath) -> str | None:
    """The module that a file of an installed distribution makes importable, or None."""
    first = file.parts[0]
    if first in ("..", "/") or first.endswith((".dist-info", ".data")):
        return None
    return first.split(".")[0] if len(file.parts) == 1 else first


def _sources(root: Path) -> list[Path]:
    """All files of the five packages that are ours, not left by an interpreter."""
    return [
        path
        for package in PACKAGES
        for path in sorted((root / package).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]


def _imports(path: Path, late: bool | None = None) -> set[str]:
    """Top-level modules that a Python file imports; `late`: only inside, or outside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if late is not None and late != (id(node) in inside):
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel that this repository builds, without asking a network for anything."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, repository],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        yield archive


@pytest.mark.parametrize("package", PACKAGES)
def test_no_dependency_installs_a_module_with_one_of_our_names(package: str) -> None:
    others = [
        f"{distribution.name}: {file}"
        for distribution in metadata.distributions()
        if _distribution_of(distribution.name) != "matloop"
        for file in distribution.files or ()
        if _top_level(file) == package
    ]
    assert others == []


def test_our_packages_are_the_ones_that_are_imported(repository: Path) -> None:
    import importlib

    for package in PACKAGES:
        module = importlib.import_module(package)
        assert Path(module.__file__ or "").parent == repository / package


def test_the_wheel_holds_the_five_packages_and_nothing_else(
    wheel: zipfile.ZipFile, repository: Path
) -> None:
    card = next(name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name)
    held = {name for name in wheel.namelist() if not name.startswith(f"{card}/")}
    ours = {path.relative_to(repository).as_posix() for path in _sources(repository)}
    assert {name.split("/")[0] for name in held} == set(PACKAGES)
    assert held == ours


def test_the_wheel_holds_what_the_packages_read(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert "campaigns/spec.schema.json" in names
    for folder, suffix in (
        ("generators/", ".safetensors"),
        ("generators/", ".json"),
        ("campaigns/templates/", ".yaml"),
        ("campaigns/store/migrations/versions/", ".py"),
    ):
        assert [n for n in names if n.startswith(folder) and n.endswith(suffix)], folder + suffix


def test_the_wheel_is_small_enough_to_ship(wheel: zipfile.ZipFile) -> None:
    weights = [i for i in wheel.infolist() if i.filename.endswith(".safetensors")]
    assert all(item.file_size < 20e6 for item in weights)


def test_the_version_is_said_in_one_place(wheel: zipfile.ZipFile) -> None:
    from campaigns._version import __version__

    assert f"matloop-{__version__}.dist-info/METADATA" in wheel.namelist()
    assert metadata.version("matloop") == __version__


def test_the_command_and_every_export_format_load() -> None:
    entries = metadata.distribution("matloop").entry_points
    assert callable(entries.select(group="console_scripts", name="matloop")["matloop"].load())
    formats = entries.select(group="matloop.exporters")
    assert {"csv", "json", "ax", "report"} <= formats.names
    for entry in formats:
        assert callable(entry.load()), entry


def test_imports_point_down_the_house(repository: Path) -> None:
    script = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=repository, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_everything_we_import_is_declared(repository: Path) -> None:
    """What a dependency of a dependency brings today, it may not bring tomorrow.

    What an extra brings is imported inside a function; a module for another system's users, of
    `campaigns.adapters`, stands for its extra.
    """
    always, extras = set[str](), set[str]()
    for line in metadata.requires("matloop") or []:
        name = _distribution_of(re.split(r"[\s\[<>=!~;]", line, maxsplit=1)[0])
        (extras if "extra ==" in line else always).add(name)
    # Halves of what is declared: each is pinned by its other half.
    always |= {"pymatgen-core", "pydantic-core"}
    provided_by = metadata.packages_distributions()
    stray: dict[str, list[str]] = {}
    for path in _sources(repository):
        if path.suffix != ".py":
            continue
        at_once = _imports(path, late=False)
        for module in _imports(path) - set(sys.stdlib_module_names) - set(PACKAGES):
            of = provided_by.get(module, [{"aiida": "aiida-core"}.get(module, module)])
            homes = {_distribution_of(name) for name in of}
            needed = module in at_once and path.parent.name != "adapters"
            known = always if needed else always | extras
            # an extra that is not installed here is known by its module's name
            if not homes & known:
                stray.setdefault(module, []).append(path.relative_to(repository).as_posix())
    assert stray == {}
