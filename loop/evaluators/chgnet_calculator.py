"""CHGNet as an ASE calculator that takes forces and stress in one backward pass.

The calculator of the `chgnet` package differentiates the energy twice (once for forces, once for
stress) and keeps the graph for training both times, which is most of the time of a call on a CPU.
The energy is its own, `CHGNet._compute`; only the differentiation is done once, so the figures are
the same (a test holds it) at less than half the time. Deng et al., Nat. Mach. Intell. 5, 1031
(2023).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from chgnet.model.model import BatchedGraph, CHGNet
from pymatgen.io.ase import AseAtomsAdaptor

if TYPE_CHECKING:
    from ase import Atoms


class CHGNetCalculator(Calculator):
    """ASE calculator for a CHGNet: energy (eV), forces (eV/A), stress (eV/A^3, Voigt).

    Args:
        model: The network; its parameters are frozen.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 - as ASE has it

    def __init__(self, model: CHGNet, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model.requires_grad_(False).eval()
        # A stretched cell may leave atoms without neighbours; the energy is then that of free
        # atoms, which the fit of an equation of state rejects. A warning for each helps nobody.
        self.model.graph_converter.set_isolated_atom_response("ignore")

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute energy, forces and stress of `atoms` into `self.results`."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        number = len(self.atoms)
        model = self.model
        graph = model.graph_converter(AseAtomsAdaptor.get_structure(self.atoms))
        graph.atom_frac_coord.requires_grad_(True)
        batch = BatchedGraph.from_graphs(
            [graph],
            bond_basis_expansion=model.bond_basis_expansion,
            angle_basis_expansion=model.angle_basis_expansion,
            compute_stress=True,
        )
        prediction = model._compute(batch)
        energy = prediction["e"].sum()
        if model.is_intensive:
            energy = energy * number
        minus_forces, virial = torch.autograd.grad(
            energy, [batch.atom_positions[0], batch.strains[0]]
        )
        composition = model.composition_model
        if composition is not None:
            shift = composition([graph]).sum()
            energy = energy + (shift * number if model.is_intensive else shift)
        total = float(energy.detach())
        volume = float(batch.volumes[0])
        # Of strain, only the symmetric part is a stress; rounding leaves the rest at 1e-7.
        stress = virial.numpy() / volume
        self.results = {
            "energy": total,
            "free_energy": total,
            "forces": -minus_forces.numpy(),
            "stress": full_3x3_to_voigt_6_stress((stress + stress.T) / 2),
        }
