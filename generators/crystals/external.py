"""Crystals of other people's generators: a folder of what they wrote, or a command that writes it.

MatterGen, DiffCSP, Chemeleon and whatever else writes CIFs takes part in a campaign by a recipe:

    kind: external
    description: MatterGen, chemical system Li-O
    folder: mattergen-li-o            # CIFs, zips of CIFs, or one .csv.gz, .json.gz, .zip
    # what fills the folder where it is absent; without it the folder is only read
    command: [mattergen-generate, "{out}", --pretrained-name=chemical_system, "--batch_size={n}",
              "--properties_to_condition_on={conditions}"]
    conditions: {chemical_system: Li-O}
    count: 200                        # {n}
    seed: 0                           # {seed}
    at_least: 50                      # fewer usable crystals are an error
    time_limit: 2 h

The command runs once, as a child process of its own session, with no shell, in the recipe's folder,
until its time limit. It writes into a new folder that takes its name only when the command ended
well, so a run that fails or is killed leaves nothing behind that could be mistaken for a result.

The latent space has one dimension: which crystal. They stand in the order of their elements, so
that a short step leads to a similar one; nothing is decoded that was not written by the other
generator. Other people's checkpoints are never opened here: many are pickles.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Element, Structure
from torch import Tensor

from generators.crystals.baselines.base import Baseline, exactly
from generators.crystals.baselines.choices import Choices
from generators.crystals.baselines.parents import Parent, summary, told, usable
from generators.crystals.baselines.recipe import External, Recipe
from generators.crystals.conditions import Conditions
from generators.crystals.crystal_files import Read, Refused, read_crystals
from generators.crystals.drawing import Drawn, miss
from generators.crystals.generator import CrystalGenerator, is_valid
from generators.crystals.geometry import closeness
from generators.crystals.symmetry import Array

_TOLD = 2000
"""Characters of a command's last words that an error repeats."""


class ExternalError(ValueError):
    """A command that gave no crystals, or a folder that holds none: why, and what to do."""


class ExternalGenerator(Baseline):
    """The crystals that another generator wrote.

    Raises:
        FileNotFoundError: There is no folder, and no command to fill it.
        ExternalError: The command is absent, fails, takes too long or writes too few crystals.
    """

    def __init__(self, recipe: Recipe, trained: CrystalGenerator) -> None:
        assert isinstance(recipe.settings, External)
        self.settings = recipe.settings
        self.place = recipe.path(self.settings.folder)
        if not self.place.exists() and self.settings.command is not None:
            _fill(recipe, self.place)
        super().__init__(recipe, trained)
        self.crystals, self.refused = self._read(self.place)
        self.card["data"] |= {
            "crystals": len(self.crystals),
            "refused": told(self.refused),
        }

    def _read(self, place: Path) -> tuple[list[Structure], list[Refused]]:
        """Usable crystals, alike ones side by side, and the rows that are not."""
        found: dict[bytes, Structure] = {}
        refused: list[Refused] = []
        for row in read_crystals(place):
            structure = self._usable(row)
            if isinstance(structure, Refused):
                refused.append(structure)
            elif exactly(structure) in found:
                refused.append(Refused(row.name, "it is there twice"))
            else:
                found[exactly(structure)] = structure
        if len(found) < self.settings.at_least:
            raise ExternalError(
                f"{place} holds {len(found)} usable crystals, and {self.recipe.name} wants"
                f" {self.settings.at_least} at least: {summary(refused)}; remove the folder for the"
                " command to run again, or ask for fewer by `at_least`"
            )
        return sorted(found.values(), key=_order), refused

    def _usable(self, row: Read | Refused) -> Structure | Refused:
        if isinstance(row, Refused):
            return row
        parent = usable(row, self.max_atoms, distinct=len(self.allowed))
        if not isinstance(parent, Parent):
            return parent
        if strange := sorted(set(parent.elements) - self.allowed):
            names = ", ".join(Element.from_Z(z).symbol for z in strange)
            return Refused(row.name, f"{names}: not among the elements that may be used")
        # as it was written, unless that is a supercell
        whole = len(parent.structure) == len(row.structure)
        structure = _bare(row.structure) if whole else parent.structure
        if not is_valid(structure) or closeness(structure, self.settings.contact) < (
            self.settings.contact
        ):
            return Refused(row.name, "two of its atoms are too close to each other")
        return structure

    def draw(self, z: Array) -> Structure | None:
        """One of the crystals."""
        return self.crystals[Choices(z).pick(0, np.ones(len(self.crystals)))]

    def decode(self, z: Tensor, seed: int = 0) -> list[Structure | None]:
        """The crystals of latent vectors `n x 1`, as they were written."""
        return [self.draw(row) for row in z.detach().cpu().double().numpy()]

    def read(self, structure: Structure) -> Array:
        """Which of the crystals it is."""
        for row, crystal in enumerate(self.crystals):
            if self.same(crystal, structure):
                choices = Choices(size=1)
                choices.pick(0, np.ones(len(self.crystals)), row)
                return choices.z
        raise ValueError(f"it is not among the {len(self.crystals)} crystals of {self.name}")

    def sample(
        self, n: int, seed: int = 0, conditions: dict[str, Any] | None = None
    ) -> list[Structure | None]:
        """`n` of the crystals, none twice; None where there are no more; see `drawn`."""
        found = self.drawn(n, seed, conditions).designs
        return [*found, *[None] * (n - len(found))]

    def drawn(self, n: int, seed: int = 0, conditions: Mapping[str, Any] | None = None) -> Drawn:
        """At most `n` of the crystals, none twice, and what was not returned.

        With conditions, the command runs anew and is given them. Those that are conditions of the
        generators here, and hard, are held against what it wrote; others are the command's own.

        Raises:
            ValueError: There is no command that takes conditions, or a condition means nothing.
            ExternalError: It gave no crystals.
        """
        if not conditions:
            order = np.random.default_rng(seed).permutation(len(self.crystals))[:n]
            return Drawn([self.crystals[int(i)] for i in order], n, len(self.crystals))
        if not any("{conditions}" in word for word in self.settings.command or ()):
            super().sample(n, seed, dict(conditions))  # which refuses them
        ours = {f.name for f in fields(Conditions)} & set(conditions)
        asked = Conditions.parse({"balanced": False, **{k: conditions[k] for k in ours}})
        with tempfile.TemporaryDirectory(prefix="matloop-") as folder:
            run_command(self.recipe, Path(folder), n, seed, conditions)
            found, _ = self._read(Path(folder))
        out = Drawn([], n, len(found))
        for structure in found:
            if (why := miss(self.trained, structure, asked)) is not None:
                out.misses[why] += 1
            elif len(out.designs) < n:
                out.designs.append(structure)
        return out


def _bare(structure: Structure) -> Structure:
    """Without charges, magnetic moments and labels, which a CIF may carry."""
    kinds = [Element.from_Z(site.specie.Z) for site in structure]
    return Structure(structure.lattice, kinds, structure.frac_coords, to_unit_cell=True)


def _order(structure: Structure) -> tuple[Any, ...]:
    ranks = sorted(float(e.mendeleev_no or e.Z) for e in structure.composition.elements)
    return len(ranks), ranks, structure.composition.reduced_formula, structure.volume


def _fill(recipe: Recipe, place: Path) -> None:
    """Run the command; what it wrote takes its name when it ended well.

    Whoever comes second keeps the folder of the first: one recipe has one set of crystals.
    """
    settings = recipe.settings
    assert isinstance(settings, External)
    place.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{place.name}-"
    for stale in place.parent.glob(f"{prefix}*"):  # of runs that were killed
        if time.time() - stale.stat().st_mtime > 2 * settings.time_limit + 3600:
            shutil.rmtree(stale, ignore_errors=True)
    fresh = place.parent / f"{prefix}{secrets.token_hex(4)}"
    fresh.mkdir()
    try:
        run_command(recipe, fresh, settings.count, settings.seed, settings.conditions)
        rows = list(read_crystals(fresh))
        if not any(isinstance(row, Read) for row in rows):
            why = summary([r for r in rows if isinstance(r, Refused)]) if rows else "no CIF at all"
            raise ExternalError(
                f"the command of {recipe.name} was asked for {settings.count} crystals and wrote"
                f" none that can be read: {why}; it writes CIFs into the folder {{out}}"
            )
        if not place.exists():
            fresh.rename(place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def run_command(
    recipe: Recipe, out: Path, n: int, seed: int, conditions: Mapping[str, Any] | None
) -> None:
    """Run the command of a recipe, which is to write CIFs into the folder `out`.

    Args:
        recipe: Of the kind `external`, with a command.
        out: Stands for {out}.
        n: Stands for {n}.
        seed: Stands for {seed}.
        conditions: Stands for {conditions}, as JSON.

    Raises:
        ExternalError: It is absent, fails, or takes longer than its limit.
    """
    settings = recipe.settings
    assert isinstance(settings, External)
    assert settings.command is not None
    filled = {"n": str(n), "seed": str(seed), "out": str(out),
              "conditions": json.dumps(dict(conditions or {}), sort_keys=True)}  # fmt: skip
    words = [_filled(word, filled) for word in settings.command]
    named = f"the command of {recipe.name} ({words[0]})"
    with tempfile.TemporaryFile() as log:
        try:
            child = subprocess.Popen(
                words, cwd=recipe.folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise ExternalError(
                f"{named} cannot be started: {error.strerror}; is it installed, and is its folder"
                " in PATH? It runs without a shell"
            ) from error
        with _ended(child):
            try:
                status = child.wait(settings.time_limit)
            except subprocess.TimeoutExpired:
                raise ExternalError(
                    f"{named} took longer than its time_limit of {settings.time_limit:g} s and was"
                    f" ended; its last words: {_last(log)}"
                ) from None
        if status:
            raise ExternalError(
                f"{named} failed with status {status}; its last words: {_last(log)}"
            )


def _filled(word: str, values: Mapping[str, str]) -> str:
    """A word of a command with its placeholders filled in, other braces left as they are."""
    for name, value in values.items():
        word = word.replace("{" + name + "}", value)
    return word


@contextmanager
def _ended(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a child and all that it started, however we leave."""
    try:
        yield
    finally:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            child.poll()  # all of them ended by themselves
        child.wait()


def _last(log: Any) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - _TOLD))
    lines: Sequence[str] = log.read().decode(errors="replace").split()
    return " ".join(lines)[-_TOLD:] or "none"
