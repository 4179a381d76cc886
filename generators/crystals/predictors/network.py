"""MEGNet of matgl with several outputs, run on graphs without repeated atoms.

The layers are matgl's own ([Chen2019]_, [Ko2025]_), and with every multiplicity one this is
`matgl.models.MEGNet`, number by number; where means and sums run over atoms and bonds, each kind
counts as often as it is there.

.. [Chen2019] C. Chen et al., Graph networks as a universal machine learning framework for molecules
   and crystals. Chemistry of Materials 31, 3564, 2019.
.. [Ko2025] T. W. Ko et al., Materials Graph Library (MatGL). npj Computational Materials 11, 2025.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from pymatgen.core import Element
from torch import Tensor, nn

from generators.crystals.predictors.graphs import Batch
from generators.crystals.tokens import element_table

LARGEST_NUMBER = 94  # atomic numbers that the network has an embedding of
_HIDDEN = 64


class PropertyNetwork(nn.Module):
    """Crystals to `p` standardised properties, by way of a vector of each crystal.

    Args:
        outputs: `p`.
        size: Arguments of `matgl.models.MEGNet`.
    """

    network: Any  # matgl's, of which every layer is used one by one

    def __init__(self, outputs: int, size: dict[str, Any]) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of matgl's old torch.jit
            from matgl.layers import MLP
            from matgl.models import MEGNet

        symbols = tuple(Element.from_Z(z).symbol for z in range(1, LARGEST_NUMBER + 1))
        network: Any = MEGNet(element_types=symbols, **size)
        width = network.output_proj.layers[0].in_features
        # matgl's has a single output.
        network.output_proj = nn.Identity()
        self.network = network
        self.hidden = MLP([width, _HIDDEN], nn.SiLU(), activate_last=True)
        self.heads = nn.Linear(_HIDDEN, outputs)
        # Elements begin where chemistry puts them, so that rare ones are near their like.
        chemistry = torch.as_tensor(element_table()[1 : LARGEST_NUMBER + 1], dtype=torch.float32)
        table = network.embedding.layer_node_embedding.weight
        with torch.no_grad():
            table[:, : chemistry.shape[1]] = chemistry[:, : table.shape[1]]

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Standardised properties `n x p` and vectors `n x 64` of n crystals."""
        vectors = self.hidden(self.readout(batch))
        return self.heads(vectors), vectors

    def readout(self, batch: Batch) -> Tensor:
        """What MEGNet's last layers read: `n x r`."""
        net = self.network
        state = batch.distance.new_zeros(batch.size, net.state_encoder.layers[0].in_features)
        node, edge, state = net.embedding(
            batch.number - 1, net.bond_expansion(batch.distance), state
        )
        edge, node, state = net.edge_encoder(edge), net.node_encoder(node), net.state_encoder(state)
        for block in net.blocks:
            edge, node, state = _block(block, batch, edge, node, state)
        edges = batch.count * batch.atoms[batch.source]
        return torch.cat(
            [
                _set_to_set(net.node_s2s, node, batch.atoms, batch.graph, batch.size),
                _set_to_set(net.edge_s2s, edge, edges, batch.edge_graph, batch.size),
                state,
            ],
            dim=-1,
        )


def _block(
    block: Any, batch: Batch, edge: Tensor, node: Tensor, state: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    e, v, u = block.edge_func(edge), block.node_func(node), block.state_func(state)
    conv = block.conv
    e = conv.edge_func(
        torch.cat([v[batch.source], v[batch.target], e, u[batch.edge_graph]], dim=-1)
    )
    # matgl gathers messages at the source of an edge.
    around = _mean(e, batch.count, batch.source, len(v))
    v = conv.node_func(torch.cat([v, around, u[batch.graph]], dim=-1))
    edges = batch.count * batch.atoms[batch.source]
    mean_edge = _mean(e, edges, batch.edge_graph, batch.size)
    mean_node = _mean(v, batch.atoms, batch.graph, batch.size)
    u = conv.state_func(torch.cat([u, mean_edge, mean_node], dim=-1))
    return e + edge, v + node, u + state


def _sum(values: Tensor, index: Tensor, size: int) -> Tensor:
    return values.new_zeros(size, values.shape[1]).index_add_(0, index, values)


def _mean(values: Tensor, weight: Tensor, index: Tensor, size: int) -> Tensor:
    """Weighted means of the rows with the same index; 0 where there is none."""
    w = weight[:, None]
    return _sum(values * w, index, size) / _sum(w, index, size).clamp(min=1e-9)


def _set_to_set(layer: Any, x: Tensor, weight: Tensor, index: Tensor, size: int) -> Tensor:
    """Set2Set (Vinyals et al., ICLR 2016), each row counted as often as its weight."""
    width = x.shape[1]
    h = tuple(x.new_zeros(layer.lstm.num_layers, size, width) for _ in range(2))
    told = x.new_zeros(size, 2 * width)
    for _ in range(layer.n_iters):
        q, h = layer.lstm(told[None], h)
        q = q[0]
        score = (x * q[index]).sum(-1)
        top = score.new_full((size,), -torch.inf).scatter_reduce(0, index, score.detach(), "amax")
        told = torch.cat([q, _mean(x, weight * (score - top[index]).exp(), index, size)], dim=-1)
    return told
