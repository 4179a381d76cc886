"""Crystals that other programs wrote, or write: what is usable is used, and the rest is told."""

from __future__ import annotations

import gzip
import json
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from campaigns.cli import main
from generators import Generator, load_generator
from generators.crystals.conditions import ConditionError
from generators.crystals.crystal_files import LARGEST_TEXT, Read, Refused, read_crystals
from generators.crystals.external import ExternalError, ExternalGenerator
from tests.generators.crystals import crystals
from tests.generators.generator_test_case import GeneratorTestCase

GOOD = ("rocksalt", "perovskite", "wurtzite", "rutile")
WRITE = """
import json, sys
from pathlib import Path
out, n, seed, conditions = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
texts = json.loads(Path("texts.json").read_text())
for i in range(n):
    (out / f"{i}.cif").write_text(texts[i % len(texts)])
with open("runs.txt", "a") as log:
    log.write(f"{n} {seed} {conditions}\\n")
"""


def cif(name: str) -> str:
    return str(crystals()[name].to(fmt="cif"))


def write_bad(folder: Path) -> dict[str, str]:
    """Files that are no usable crystals, and a word of why."""
    five_hundred = crystals()["rocksalt"].copy()
    five_hundred.make_supercell([4, 4, 4])
    shaken = np.random.default_rng(0).normal(0, 0.01, (len(five_hundred), 3))
    large = Structure(five_hundred.lattice, five_hundred.species, five_hundred.frac_coords + shaken)
    alloy = Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    close = Structure(Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.2, 0, 0]])
    bad = {
        "alloy": (alloy.to(fmt="cif").encode(), "disordered"),
        "large": (large.to(fmt="cif").encode(), "512 atoms"),
        "cut": (cif("perovskite")[:300].encode(), "cannot be read"),
        "nothing": (b"", "cannot be read"),
        "unknown": (cif("rocksalt").replace("Mg", "Qq").encode(), ""),
        "latin": ("data_\xe9\n".encode("latin-1") + cif("rutile").encode(), "cannot be read"),
        "pickle": (b"\x80\x04\x95", "cannot be read"),
        "close": (close.to(fmt="cif").encode(), "too close"),
        "huge": (b"#" * (LARGEST_TEXT + 1), "too many for a CIF"),
        "twice": (cif("rocksalt").encode(), "there twice"),
        "heavy": (cif("rocksalt").replace("Mg", "Og").encode(), ""),
    }
    for name, (text, _) in bad.items():
        (folder / f"{name}.cif").write_bytes(text)
    return {f"{name}.cif": why for name, (_, why) in bad.items()}


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Path]:
    """Writes a recipe, and the program that its command is."""
    (tmp_path / "write.py").write_text(WRITE)
    (tmp_path / "texts.json").write_text(json.dumps([cif(name) for name in GOOD]))

    def make(**settings: Any) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(json.dumps({"kind": "external", "folder": "made", **settings}))
        return path

    return make


COMMAND = [sys.executable, "write.py", "{out}", "{n}", "{seed}", "{conditions}"]


class TestExternal(GeneratorTestCase):
    @pytest.fixture
    def generator(self, tmp_path: Path) -> Generator:
        for name in GOOD:
            (tmp_path / f"{name}.cif").write_text(cif(name))
        (tmp_path / "mine.yaml").write_text("kind: external\nfolder: .\n")
        return load_generator(tmp_path / "mine.yaml")

    @pytest.fixture
    def designs(self) -> Sequence[Structure]:
        return [crystals()[name] for name in GOOD]

    @pytest.fixture
    def foreign(self) -> Structure:
        return crystals()["corundum"]

    def test_no_crystal_is_drawn_twice(self, generator: Generator) -> None:
        drawn = generator.sample(6, seed=0)
        found = [s for s in drawn if s is not None]
        assert drawn[len(found) :] == [None, None]
        assert len({s.composition.reduced_formula for s in found}) == len(GOOD)


def test_bad_files_are_told_and_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    for name in GOOD:
        (folder / f"{name}.cif").write_text(cif(name))
    bad = write_bad(folder)
    (folder / "notes.txt").write_text("no crystal")
    (tmp_path / "mine.yaml").write_text("kind: external\nfolder: made\n")
    generator = load_generator(tmp_path / "mine.yaml")
    assert isinstance(generator, ExternalGenerator)
    assert len(generator.crystals) == len(GOOD)
    refused = {row.name: row.reason for row in generator.refused}
    assert set(refused) == set(bad)
    for name, why in bad.items():
        assert why in refused[name]
    assert generator.card["data"]["crystals"] == len(GOOD)
    (tmp_path / "mine.yaml").write_text("kind: external\nfolder: made\nat_least: 5\n")
    with pytest.raises(ExternalError, match="4 usable crystals, and mine wants 5"):
        load_generator(tmp_path / "mine.yaml")


def test_a_table_is_read_row_by_row(tmp_path: Path) -> None:
    good, alloy = crystals()["rocksalt"], Structure(Lattice.cubic(3), [{"Cu": 0.5}], [[0, 0, 0]])
    rows = [{"structure": s.as_dict()} for s in (good, alloy)] + [{"structure": {}}, {"other": 1}]
    with gzip.open(tmp_path / "a.json.gz", "wt") as handle:
        json.dump(rows, handle)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("inner/good.cif", cif("rutile"))
        archive.writestr("../outside.cif", "data_")
    (tmp_path / "c.csv").write_text("cif\n" + '"' + cif("wurtzite").replace('"', '""') + '"\n""\n')
    (tmp_path / "d.zip").write_bytes(b"PK no zip")
    (tmp_path / "e.csv").write_text("structure\nx\n")
    found = list(read_crystals(tmp_path))
    good_rows = [row.name for row in found if isinstance(row, Read)]
    assert good_rows == ["a.json.gz: row 1", "b.zip: inner/good.cif", "c.csv: row 2"]
    refused = {row.name: row.reason for row in found if isinstance(row, Refused)}
    assert "no column `cif`" in refused["e.csv"]
    assert "cannot be read" in refused["d.zip"]
    assert len(found) == 10
    with pytest.raises(ValueError, match="crystals are read from"):
        list(read_crystals(Path(__file__)))


def test_a_command_runs_once(recipe: Callable[..., Path], tmp_path: Path) -> None:
    path = recipe(command=COMMAND, count=5, seed=3, conditions={"system": "a b; touch x"})
    first, second = load_generator(path), load_generator(path)
    assert first.version == second.version
    assert (tmp_path / "runs.txt").read_text() == '5 3 {"system": "a b; touch x"}\n'
    assert not (tmp_path / "x").exists()
    assert isinstance(first, ExternalGenerator)
    assert [row.reason for row in first.refused] == ["it is there twice"]
    assert len(first.sample(2, conditions={"gap": 1.5})) == 2
    assert (tmp_path / "runs.txt").read_text().splitlines()[1:] == ['2 0 {"gap": 1.5}']
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "made", "mine.yaml", "runs.txt", "texts.json", "write.py",
    ]  # fmt: skip


def test_what_a_command_wrote_is_held_against_what_was_asked(recipe: Callable[..., Path]) -> None:
    generator = load_generator(recipe(command=COMMAND, count=5, seed=3))
    assert isinstance(generator, ExternalGenerator)
    asked = {"contains": "Mg", "gap": 1.5}
    drawn = generator.drawn(5, 0, asked)
    assert drawn.designs
    assert all("Mg" in s.composition for s in drawn.designs)
    assert drawn.misses["without an element"] == drawn.draws - len(drawn.designs) > 0
    assert generator.sample(5, 0, asked)[len(drawn.designs) :] == [None] * (5 - len(drawn.designs))
    with pytest.raises(ConditionError, match="there is no element 'Xx'"):
        generator.drawn(5, 0, {"contains": "Xx"})


def test_what_there_is_not_is_no_invalid_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made").mkdir()
    for name in GOOD:
        (tmp_path / "made" / f"{name}.cif").write_text(cif(name))
    (tmp_path / "made" / "torn.cif").write_text("data_x")
    (tmp_path / "mine.yaml").write_text("kind: external\nfolder: made\n")
    assert main(["generators", "evaluate", "mine.yaml", "--only", "validity", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["data"]
    assert told["figures"]["structure_valid"]["n"] == len(GOOD)
    assert told["figures"]["structure_valid"]["value"] == 1.0
    assert any(line.startswith("torn.cif: ") for line in told["problems"])
    assert main(["generators", "sample", "mine.yaml", "-n", "9"]) == 0
    assert f"mine has no more: {len(GOOD)} of 9" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["no-such-program"], "cannot be started: No such file"),
        ([sys.executable, "-c", "print('out of memory'); raise SystemExit(3)"], "status 3.*memory"),
        ([sys.executable, "-c", "pass"], "none that can be read: no CIF at all"),
        ([sys.executable, "-c", "open('{out}/a.cif', 'w').write('data_')"], "a.cif: cannot"),
    ],
)
def test_a_command_that_gives_nothing_is_told(
    recipe: Callable[..., Path], tmp_path: Path, command: list[str], told: str
) -> None:
    with pytest.raises(ExternalError, match=told):
        load_generator(recipe(command=command))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.yaml", "texts.json", "write.py"]


def test_a_command_that_takes_too_long_is_ended_with_its_children(
    recipe: Callable[..., Path], tmp_path: Path
) -> None:
    lives = tmp_path / "lives"
    grandchild = f"import time\nwhile True: open({str(lives)!r}, 'a').write('x'); time.sleep(0.05)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    with pytest.raises(ExternalError, match=r"time_limit of 1\.5 s"):
        load_generator(recipe(command=[sys.executable, "-c", child], time_limit="1.5 s"))
    size = lives.stat().st_size
    time.sleep(0.3)
    assert lives.stat().st_size == size
    assert not (tmp_path / "made").exists()
