"""What a surrogate sees of crystals beside the generator's summary."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from generators import load_generator
from generators.base import Generator
from generators.crystals.embedding import PREDICTED, ChgnetEmbedding, PredictedProperties
from generators.crystals.predictors import load_predictor
from loop.axes.latent import LatentAxis, LatentVector


@pytest.fixture(scope="module")
def generator() -> Generator:
    """The shipped generator of crystals."""
    return load_generator("crystals")


@pytest.fixture(scope="module")
def chgnet(generator: Generator) -> ChgnetEmbedding:
    """CHGNet's embedding."""
    return ChgnetEmbedding(generator, columns=4)


def rocksalt(a: float, cation: str) -> Structure:
    """A rock salt oxide."""
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [cation, "O"], [[0] * 3, [0.5] * 3])


def test_one_crystal_in_any_cell_has_one_embedding(chgnet: ChgnetEmbedding) -> None:
    whole = rocksalt(4.2, "Mg")
    cells = [
        whole,
        whole.get_primitive_structure(),
        whole.make_supercell([2, 1, 1], in_place=False),
    ]
    found = chgnet.features(cells)
    assert found.shape == (3, 4)
    np.testing.assert_allclose(found, found[[0]].repeat(3, axis=0), atol=1e-3)
    np.testing.assert_array_equal(chgnet.features(cells[:1]), found[:1])


def test_similar_crystals_are_near_each_other(chgnet: ChgnetEmbedding) -> None:
    a, b, other = chgnet.features([rocksalt(4.2, "Mg"), rocksalt(4.25, "Mg"), rocksalt(4.9, "Sr")])
    assert np.linalg.norm(a - b) < 0.3 * np.linalg.norm(a - other)


def test_a_gas_of_atoms_has_one_too(chgnet: ChgnetEmbedding) -> None:
    gas = Structure(Lattice.cubic(20.0), ["Na"], [[0, 0, 0]])
    assert np.isfinite(chgnet.features([gas, rocksalt(4.2, "Mg")])).all()
    assert chgnet.features([]).shape == (0, 4)


def test_a_latent_axis_shows_them_beside_the_summary(
    generator: Generator, chgnet: ChgnetEmbedding
) -> None:
    axis = LatentAxis("crystal", generator, (LatentVector(generator), chgnet))
    plain = LatentAxis("crystal", generator)
    designs = [rocksalt(4.2, "Mg"), rocksalt(4.8, "Ca")]
    found = axis.features(designs)
    assert found.shape == (2, len(axis.feature_names))
    assert len(axis.feature_names) == len(plain.feature_names) + generator.dim + 4
    np.testing.assert_array_equal(found[:, : len(plain.feature_names)], plain.features(designs))
    np.testing.assert_array_equal(found[:, -4:], chgnet.features(designs))


def test_predicted_properties_are_the_predictors(generator: Generator) -> None:
    predicted = PredictedProperties(generator)
    designs = [rocksalt(4.2, "Mg"), rocksalt(4.8, "Ca")]
    found = predicted.features(designs)
    for column, (wanted, name) in enumerate(PREDICTED.items()):
        predictor = load_predictor(name)
        theirs = predictor.predict(designs)[:, list(predictor.properties).index(wanted)]
        np.testing.assert_allclose(found[:, column], theirs, atol=1e-3)
    assert predicted.features([]).shape == (0, 4)
    axis = LatentAxis("crystal", generator, (predicted,))
    assert axis.feature_units["crystal.matgl.predicted_bulk_modulus"] == "GPa"
    assert set(axis.feature_units) <= set(axis.feature_names)


def test_heads_speak_where_the_predictor_cannot_tell(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    designs = [rocksalt(4.2, "Mg"), rocksalt(4.8, "Ca")]
    told = PredictedProperties(generator).features(designs)
    network = load_predictor("distilled")
    energy = network.predict(designs)
    energy[1] = np.nan  # as of an element that it never saw
    monkeypatch.setattr(network, "predict", lambda structures: energy)
    found = PredictedProperties(generator).features(designs)
    heads = [generator.feature_names.index(f"predicted_{p}") for p in PREDICTED]
    np.testing.assert_allclose(found[0], told[0], atol=1e-3)
    np.testing.assert_allclose(found[1], generator.features(designs)[1, heads], atol=1e-3)


def test_it_goes_with_generators_of_those_properties(generator: Generator) -> None:
    assert PredictedProperties.suits(generator)
    assert not PredictedProperties.suits(load_generator("perovskites"))
