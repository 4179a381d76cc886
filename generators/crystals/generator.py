"""The generator of crystals: structures to latent vectors and back."""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from generators.base import EncodeError, Generator
from generators.crystals.choosing import choose
from generators.crystals.conditions import Conditions
from generators.crystals.drawing import Drawn, draw, of_mapping
from generators.crystals.familiarity import chance
from generators.crystals.forcing import Partial, Rules
from generators.crystals.geometry import CLOSEST, LEAST_VOLUME
from generators.crystals.identity import identity
from generators.crystals.network import CrystalNetwork, Size
from generators.crystals.prior import FittedPrior
from generators.crystals.refining import refine
from generators.crystals.symmetry import Array
from generators.crystals.tokens import (
    MAX_ORBITS,
    Tokens,
    element_table,
    tokenize,
)
from generators.crystals.training import Trained
from generators.crystals.wyckoff import UndescribableError, WyckoffCrystal, describe
from generators.files import read_card, version_of, write_weights
from generators.fine_tuning.adapter import FittedAdapter
from generators.fine_tuning.recipe import Examined, Recipe, Runtime

_UNITS = {
    "predicted_formation_energy": "eV/atom",
    "predicted_band_gap": "eV",
    "predicted_bulk_modulus": "GPa",
    "predicted_shear_modulus": "GPa",
    "predicted_density": "g/cm^3",
}
STEADY = 0.05  # of the distance between two draws of the normal prior
_CACHED = 20_000
_BATCH = 512
_DESCRIPTORS = (
    "log_density",
    "log_volume_per_atom",
    "log_atoms",
    "electronegativity_mean",
    "electronegativity_spread",
    "radius_mean",
    "radius_spread",
    "group_mean",
    "period_mean",
    "metal_share",
    "log_symmetry_operations",
    "log_site_symmetry_mean",
    "centrosymmetric",
    "free_lengths_and_angles",
    "free_coordinates",
)


def is_valid(structure: Structure) -> bool:
    """Whether no two atoms are closer than 0.5 A and the volume is over 0.1 A^3 (Xie 2022).

    Distances count every periodic image, an atom's own among them.
    """
    if not np.isfinite(structure.lattice.matrix).all() or structure.volume <= LEAST_VOLUME:
        return False
    if min(structure.lattice.get_lll_reduced_lattice().abc) < CLOSEST:
        return False
    if len(structure) == 1:
        return True
    distances = structure.distance_matrix + np.diag(np.full(len(structure), np.inf))
    return bool(distances.min() >= CLOSEST)


class CrystalGenerator(Generator):
    """A symmetric, reversible latent space of crystals.

    A design is a `pymatgen.core.Structure`. `encode` gives one vector for any cell, origin,
    orientation and order of atoms of a crystal, since it reads its canonical Wyckoff description.

    Args:
        network: In evaluation mode.
        card: The model card, with the numbers that scale the network's inputs and outputs.
        version: Hash of weights and recipe.
        device: Where the network runs.
        learnt_prior: Where in the latent space crystals are, where that was learnt.
    """

    def __init__(
        self,
        network: CrystalNetwork,
        card: Mapping[str, Any],
        version: str,
        device: torch.device | str = "cpu",
        learnt_prior: FittedPrior | None = None,
    ) -> None:
        self.learnt_prior = learnt_prior
        self.network = network.to(device).eval()
        self.device = torch.device(device)
        self.card = dict(card)
        self.name, self.parent, self.version = card["name"], card.get("parent"), version
        self.dim = network.size.latent
        self.volumes = np.asarray(card["atomic_volumes"])
        self.max_atoms = int(card["recipe"]["max_atoms"])
        self.feature_names = (
            *(f"predicted_{p.removeprefix('log_')}" for p in network.properties),
            "predicted_density",
            *_DESCRIPTORS,
        )
        self.feature_units = {n: _UNITS[n] for n in self.feature_names if n in _UNITS}
        self._matcher = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=10)
        self._described: OrderedDict[bytes, WyckoffCrystal] = OrderedDict()

    # files -------------------------------------------------------------------------------------
    @classmethod
    def load(cls, weights: Path, device: torch.device | str = "cpu") -> CrystalGenerator:
        """Read `NAME.safetensors` and the card `NAME.json` beside it.

        Raises:
            FileNotFoundError: One of the two is absent.
            ValueError: The weights are not those that the card tells of, or the two are not such as
                this version reads.
        """
        card = read_card(weights)
        try:
            network = CrystalNetwork(Size(**card["recipe"]["network"]), tuple(card["properties"]))
            state = {k: v.float() for k, v in load_file(weights).items()}
            prior, state = FittedPrior.split(card, state, device)
            network.load_state_dict(state)
            return cls(network, card, version_of(card), device, prior)
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise ValueError(
                f"{weights}: its card and its weights do not go together, or are of another version"
                f" of matloop ({told})"
            ) from error

    @staticmethod
    def save(
        trained: Trained,
        card: Mapping[str, Any],
        weights: Path,
        prior: FittedPrior | None = None,
    ) -> None:
        """Write weights in half precision as safetensors, and the card beside them.

        Each file is at any instant the former one or the new one, complete.

        Args:
            trained: What training made.
            card: What else the card says; must have `name`, `recipe`.
            weights: Path of `NAME.safetensors`.
            prior: What goes with the network.

        Raises:
            OSError: They cannot be written.
        """
        state = {k: v.detach().cpu().half() for k, v in trained.network.state_dict().items()}
        card = {k: v for k, v in card.items() if k not in ("adapter", "prior")}
        if prior is not None:
            state |= prior.state()
            card = {**card, **prior.card}
        full = {
            **card,
            "properties": list(trained.network.properties),
            "property_mean": trained.property_mean.tolist(),
            "property_scale": trained.property_scale.tolist(),
            "elements": list(trained.elements),
            "atomic_volumes": [round(float(v), 4) for v in trained.volumes],
            "minutes": round(trained.minutes, 1),
        }
        write_weights(weights, state, full)

    @property
    def adapter(self) -> FittedAdapter | None:
        """What has its prior follow a property, where that was learnt from results."""
        return None if self.learnt_prior is None else self.learnt_prior.adapter

    def without_adapter(self) -> CrystalGenerator:
        """The same with the prior as it was before an adapter."""
        prior = self.learnt_prior
        plain = None if prior is None else replace(prior, adapter=None)
        return CrystalGenerator(self.network, self.card, self.version, self.device, plain)

    def fine_tune(
        self,
        examined: Examined,
        recipe: Recipe,
        out: Path,
        runtime: Runtime | None = None,
        folder: Path | None = None,
        on_step: Callable[[int, float], None] | None = None,
    ) -> CrystalGenerator:
        """Learn from what was examined; see `generators.fine_tuning.tune.fine_tune`."""
        from generators.fine_tuning.tune import fine_tune

        return fine_tune(self, examined, recipe, out, runtime, folder, on_step)

    # crystals ----------------------------------------------------------------------------------
    def crystal(self, structure: Structure) -> WyckoffCrystal:
        """The canonical description of a structure that this generator can represent.

        Raises:
            UndescribableError: It is disordered, too large, or holds an element without data.
        """
        key = identity(structure)
        if key in self._described:
            self._described.move_to_end(key)
            return self._described[key]
        crystal = describe(structure, max_atoms=self.max_atoms)
        unknown = sorted(set(crystal.elements) - set(self.card["elements"]))
        if unknown:
            raise UndescribableError(
                f"elements {unknown} (atomic numbers) are unknown to {self.name}"
            )
        if len(crystal.positions) > MAX_ORBITS:
            raise UndescribableError(f"it has {len(crystal.positions)} orbits, over {MAX_ORBITS}")
        self._described[key] = crystal
        if len(self._described) > _CACHED:
            self._described.popitem(last=False)
        return crystal

    def _tokens(self, designs: Sequence[Structure]) -> Tokens:
        crystals = []
        for i, structure in enumerate(designs):
            try:
                crystals.append(self.crystal(structure))
            except UndescribableError as error:
                raise EncodeError(i, str(error)) from error
        return tokenize(crystals, self.volumes)

    @torch.no_grad()
    def latent(self, tokens: Tokens) -> Tensor:
        """Latent vectors `n x d` (double) of crystals that were read."""
        parts = [
            self.network.encode(tokens[i : i + _BATCH].trimmed().to(self.device))[0].double().cpu()
            for i in range(0, len(tokens), _BATCH)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, self.dim, dtype=torch.float64)

    def encode(self, designs: Sequence[Structure]) -> Tensor:
        """Latent vectors `n x d` (double) of structures; see `Generator.encode`.

        Those that the decoder would take for another crystal are moved, at some ten times the cost.
        """
        tokens = self._tokens(designs)
        return refine(self.network, tokens.to(self.device)).double().cpu()

    def embed(self, designs: Sequence[Structure]) -> Tensor:
        """Posterior means `n x d` (double) of structures, in one pass; see `Generator.embed`."""
        return self.latent(self._tokens(designs))

    @torch.no_grad()
    def decode(
        self, z: Tensor, seed: int = 0, rules: Rules | None = None
    ) -> list[Structure | None]:
        """Structures of latent vectors `n x d`, in primitive cells; None where none is valid.

        Decoding takes no chance, so the seed changes nothing. `rules` are masks on what is decoded.
        """

        def some(i: int) -> list[Structure | None]:
            part = z[i : i + _BATCH].to(self.device, torch.float32)
            given = None if rules is None else rules[i : i + _BATCH].to(self.device)
            chosen = choose(
                self.network, part, self.max_atoms, self.card["elements"], self.volumes, given
            )
            return [None if one is None else one[0].structure(one[1]) for one in chosen]

        starts = range(0, len(z), _BATCH)
        cores = torch.get_num_threads() if self.device.type == "cpu" else 1
        if min(cores, len(starts)) == 1:
            return [one for i in starts for one in some(i)]
        # Steps of so small a network leave the other cores idle: each takes a part of its own.
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(cores) as pool:
                return [one for part in pool.map(some, starts) for one in part]
        finally:
            torch.set_num_threads(cores)

    def familiarity(self, z: Tensor) -> Array:
        """How well it knows latent vectors `n x d`: `n` chances, in [0, 1].

        The chance that a vector decodes to a valid crystal whose own vector is near, as calibrated
        on crystals that training never saw; the card tells how well.

        Raises:
            ValueError: It has no learnt prior.
        """
        if self.learnt_prior is None:
            raise ValueError(f"this version of {self.name} has no learnt prior to tell by")
        return chance(self.learnt_prior, z)

    def predict(self, designs: Sequence[Structure]) -> dict[str, Array]:
        """Properties that the heads predict of structures, in the units of its card."""
        z = self.latent(self._tokens(designs))
        found = dict(zip(self.network.properties, self._heads(z).T, strict=True))
        if self.adapter is not None:
            standard = self.network.predict(z.to(self.device, torch.float32)).detach()
            found |= self.adapter.predict(z, standard)
        return found

    @torch.no_grad()
    def _heads(self, z: Tensor) -> Array:
        standard = self.network.predict(z.to(self.device, torch.float32)).double().cpu().numpy()
        values: Array = standard * self.card["property_scale"] + self.card["property_mean"]
        return values

    def features(self, designs: Sequence[Structure]) -> Tensor:
        """Predicted properties and descriptors, `n x f` double; see `Generator.features`.

        `predicted_bulk_modulus` (GPa), `predicted_formation_energy` (eV/atom) and
        `predicted_density` (g/cm^3) foretell metrics of these names.

        The network's heads carry over what pretraining learnt, so that a surrogate needs few
        results. The latent vector itself is left out: its many dimensions drown them, as
        `benchmarks/features.py` measures.
        """
        return self.features_at(designs, self.embed(designs))

    def features_at(self, designs: Sequence[Structure], z: Tensor) -> Tensor:
        """As `features`, with what the heads say of given latent vectors `n x d`."""
        rows = [_descriptors(s, self.crystal(s)) for s in designs]
        described = torch.tensor(rows, dtype=torch.float64).reshape(len(z), len(_DESCRIPTORS))
        heads = self._heads(z)
        logarithms = [p.startswith("log_") for p in self.network.properties]
        heads[:, logarithms] = np.exp(heads[:, logarithms])
        density = torch.tensor([[float(s.density)] for s in designs], dtype=torch.float64)
        return torch.cat([torch.tensor(heads), density.reshape(-1, 1), described], 1)

    # designs as data ---------------------------------------------------------------------------
    def to_json(self, design: Structure) -> dict[str, Any]:
        """A structure as `{"cif": text}`, with all the digits of its coordinates."""
        from pymatgen.io.cif import CifWriter

        return {"cif": str(CifWriter(design, significant_figures=12))}

    def from_json(self, data: dict[str, Any]) -> Structure:
        """The structure of `{"cif": text}`.

        Raises:
            ValueError: The data holds no readable CIF.
        """
        if not isinstance(data.get("cif"), str):
            raise ValueError("a crystal design is an object with the text of a CIF under `cif`")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on the style of a CIF
            return Structure.from_str(data["cif"], fmt="cif")

    def same(self, a: Structure, b: Structure) -> bool:
        """Whether StructureMatcher, with the settings of Xie et al. (2022), matches two structures.

        They are wider than its defaults, which tell apart crystals that relax into one.
        """
        if a.composition.reduced_formula != b.composition.reduced_formula:
            return False
        return bool(self._matcher.fit(a, b))

    def describe(self, design: Structure) -> str:
        """Formula, space group and atoms in the primitive cell, as `MgO (Fm-3m, 2 atoms)`."""
        try:
            crystal = self.crystal(design)
        except UndescribableError:
            return str(design.composition.reduced_formula)
        atoms = "1 atom" if crystal.atoms == 1 else f"{crystal.atoms} atoms"
        return f"{design.composition.reduced_formula} ({crystal.group.symbol}, {atoms})"

    def prior(self, n: int, seed: int = 0) -> Tensor:
        """Draw `n x d` latent vectors from where crystals are, if that was learnt."""
        if self.learnt_prior is None:
            return super().prior(n, seed)
        return self.learnt_prior.draw(n, torch.Generator().manual_seed(seed))

    def steady(self, designs: Sequence[Structure]) -> NDArray[np.bool_]:
        """Which structures come back as they are from their latent vectors; see `Generator.steady`.

        That is, what `embed` of a structure is decoded to is embedded near it, as `steadiness` has
        it. What cannot be embedded is not steady.
        """
        return self.returns(designs) <= self.steadiness

    @property
    def steadiness(self) -> float:
        """How far a steady structure comes back from its latent vector at most."""
        return STEADY * math.sqrt(2 * self.dim)

    def returns(self, designs: Sequence[Structure]) -> Array:
        """How far from its latent vector each of `n` structures comes back; infinity: never."""
        z, at = self.embedded(designs)
        out = np.full(len(designs), np.inf)
        out[at] = self.away(z)
        return out

    def away(self, z: Tensor) -> Array:
        """How far from latent vectors `n x d` lies what they decode to: `n`; infinity: nothing."""
        found, at = self.embedded(self.decode(z))
        out = np.full(len(z), np.inf)
        out[at] = (found - z[at].double()).norm(dim=1).numpy()
        return out

    def embedded(self, designs: Sequence[Structure | None]) -> tuple[Tensor, list[int]]:
        """Posterior means `k x d` of the designs that can be described, and which these are."""
        kept, crystals = [], []
        for i, design in enumerate(designs):
            try:
                if design is not None:
                    crystals.append(self.crystal(design))
                    kept.append(i)
            except UndescribableError:
                continue  # it is too large, say, or its symmetry is not clear
        return self.latent(tokenize(crystals, self.volumes)), kept

    def candidates(self, n: int, seed: int = 0) -> Tensor:
        """Draw `n x d` latent vectors, every other one of the prior without its adapter."""
        z = self.prior(n, seed)
        if self.adapter is not None:
            z[1::2] = self.without_adapter().prior(n, seed)[1::2]
        return z

    def sample(
        self, n: int, seed: int = 0, conditions: Conditions | Mapping[str, Any] | None = None
    ) -> list[Structure | None]:
        """`n` structures from the prior that are valid and meet the conditions; see `draw`.

        None stands only where twenty draws for each asked design were not enough.

        Args:
            n: Number of structures.
            seed: Of the draws.
            conditions: `Conditions`, or what `Conditions.parse` reads; of a generator with an
                adapter, values of what the adapter follows too, in the units that it learnt.

        Raises:
            ConditionError: What is asked means nothing, or this generator knows nothing of it.
        """
        found: list[Structure | None] = [*self.draw(n, seed, conditions).designs]
        return found + [None] * (n - len(found))

    def draw(
        self, n: int, seed: int = 0, conditions: Conditions | Mapping[str, Any] | None = None
    ) -> Drawn:
        """As `sample`, with how many draws it took and which conditions others missed."""
        return draw(self, n, seed, of_mapping(conditions))

    def complete(
        self,
        partial: Partial,
        n: int,
        seed: int = 0,
        conditions: Conditions | Mapping[str, Any] | None = None,
    ) -> Drawn:
        """Different crystals that have given orbits; `generators.crystals.completion` reads them.

        Raises:
            ConditionError: As `sample`; or the conditions contradict the orbits.
        """
        return draw(self, n, seed, of_mapping(conditions), partial)


def _descriptors(structure: Structure, crystal: WyckoffCrystal) -> list[float]:
    """Numbers of `_DESCRIPTORS`, in which no choice of cell shows.

    Symmetry is there for failures more than for properties: what little symmetry holds in place
    seldom comes to rest where it was decoded.
    """
    table = element_table()
    z = np.array([site.specie.Z for site in structure])
    chi, radius = table[z, 6], table[z, 7]
    group, sites = crystal.group, np.array(crystal.multiplicities)
    return [
        float(np.log(structure.density)),
        float(np.log(structure.volume / len(structure))),
        float(np.log(crystal.atoms)),
        float(chi.mean()),
        float(chi.std()),
        float(radius.mean()),
        float(radius.std()),
        float(table[z, 1].mean()),
        float(table[z, 0].mean()),
        float(table[z, 10].mean()),
        float(np.log(group.order)),
        float(np.average(np.log(group.order / sites), weights=sites)),
        float(group.centrosymmetric),
        float(group.lattice_dof),
        float(sum(group.positions[p].dof for p in crystal.positions)),
    ]
