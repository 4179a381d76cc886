"""What every generator promises; a test class for each generator inherits it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from generators import EncodeError, Generator


class GeneratorTestCase:
    """Subclass with fixtures `generator`, `designs` (distinct) and `foreign` (not encodable)."""

    @pytest.fixture
    def generator(self) -> Generator:
        raise NotImplementedError

    @pytest.fixture
    def designs(self) -> Sequence[Any]:
        raise NotImplementedError

    @pytest.fixture
    def foreign(self) -> Any:
        raise NotImplementedError

    def test_is_named(self, generator: Generator) -> None:
        assert generator.name
        assert len(generator.version) >= 12
        assert generator.dim > 0
        assert json.loads(json.dumps(generator.card)) == generator.card

    def test_encode_gives_one_vector_a_design(
        self, generator: Generator, designs: Sequence[Any]
    ) -> None:
        z = generator.encode(designs)
        assert z.shape == (len(designs), generator.dim)
        assert z.dtype == torch.float64
        assert z.isfinite().all()
        assert torch.allclose(generator.encode(designs[::-1]).flip(0), z, atol=1e-5)
        assert generator.encode([]).shape == (0, generator.dim)

    def test_embedding_is_a_cheap_vector_of_each_design(
        self, generator: Generator, designs: Sequence[Any], foreign: Any
    ) -> None:
        z = generator.embed(designs)
        assert z.shape == (len(designs), generator.dim)
        assert z.dtype == torch.float64
        assert z.isfinite().all()
        with pytest.raises(EncodeError):
            generator.embed([foreign])

    def test_every_design_is_steady_or_not(
        self, generator: Generator, designs: Sequence[Any]
    ) -> None:
        told = generator.steady(designs)
        assert told.shape == (len(designs),)
        assert told.dtype == bool
        assert (generator.steady(designs[::-1])[::-1] == told).all()
        assert generator.steady([]).shape == (0,)

    def test_decode_is_reproducible(self, generator: Generator) -> None:
        z = generator.prior(6, seed=3)
        first, second = generator.decode(z, seed=1), generator.decode(z, seed=1)
        assert len(first) == 6
        for a, b in zip(first, second, strict=True):
            assert (a is None) == (b is None)
            assert a is None or generator.to_json(a) == generator.to_json(b)

    def test_features_are_finite_and_named(
        self, generator: Generator, designs: Sequence[Any]
    ) -> None:
        features = generator.features(designs)
        assert features.shape == (len(designs), len(generator.feature_names))
        assert len(set(generator.feature_names)) == len(generator.feature_names)
        assert features.dtype == torch.float64
        assert features.isfinite().all()

    def test_designs_survive_as_data(self, generator: Generator, designs: Sequence[Any]) -> None:
        for design in designs:
            again = generator.from_json(generator.to_json(design))
            assert generator.same(design, again)
            assert torch.allclose(generator.encode([again]), generator.encode([design]), atol=1e-4)

    def test_different_designs_are_not_the_same(
        self, generator: Generator, designs: Sequence[Any]
    ) -> None:
        assert not generator.same(designs[0], designs[1])
        assert generator.same(designs[0], designs[0])

    def test_describe_is_one_short_line(self, generator: Generator, designs: Sequence[Any]) -> None:
        for design in designs:
            assert 0 < len(generator.describe(design)) < 80
            assert "\n" not in generator.describe(design)

    def test_what_cannot_be_encoded_is_named(
        self, generator: Generator, designs: Sequence[Any], foreign: Any
    ) -> None:
        with pytest.raises(EncodeError) as caught:
            generator.encode([designs[0], foreign])
        assert caught.value.index == 1
        assert caught.value.reason

    def test_data_that_is_no_design_is_refused(self, generator: Generator) -> None:
        with pytest.raises(ValueError, match="design"):
            generator.from_json({"nonsense": 1})

    def test_moves_and_crosses_are_reproducible(self, generator: Generator) -> None:
        z = generator.prior(6, seed=4).numpy()
        step = np.linspace(0.0, 1.0, 6)
        once, again = (
            np.stack(
                [
                    generator.move(z, step, np.random.default_rng(seed)),
                    generator.cross(z, z[::-1], np.random.default_rng(seed)),
                ]
            )
            for seed in (1, 1)
        )
        assert once.shape == (2, *z.shape)
        assert np.isfinite(once).all()
        assert (once == again).all()
        assert (z == generator.prior(6, seed=4).numpy()).all()  # what was given stays as it is

    def test_sample(self, generator: Generator) -> None:
        sampled = generator.sample(5, seed=2)
        assert len(sampled) == 5
        again = generator.sample(5, seed=2)
        for a, b in zip(sampled, again, strict=True):
            assert a is None or generator.to_json(a) == generator.to_json(b)

    def test_unknown_conditions_are_refused(self, generator: Generator) -> None:
        with pytest.raises(ValueError, match="no conditions"):
            generator.sample(1, conditions={"colour": "red"})
