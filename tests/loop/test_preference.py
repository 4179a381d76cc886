"""A person ranks pairs: the utility is learnt, and proposals go where it is largest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from loop import DesignSpace, History, Objective, Problem, ProposalSettings, RangeAxis, propose
from loop.front import utilities
from loop.preference import Preference, question

SPACE = DesignSpace((RangeAxis("x", 0.0, 1.0), RangeAxis("y", 0.0, 1.0)))
TWO = Problem(SPACE, (Objective("a", "maximize", "GPa"), Objective("b", "minimize", "g/cm^3")))
QUICK = ProposalSettings(prior=300, jitter=100, cross=50, rounds=2, children=80, parents=8,
                         polish=5, shortlist=150, samples=32)  # fmt: skip


def arc(n: int, seed: int = 0) -> np.ndarray:
    """Outcomes near a front: n x 2."""
    rng = np.random.default_rng(seed)
    angle, radius = rng.random(n) * np.pi / 2, 1.0 - 0.15 * rng.random(n)
    return np.stack([np.cos(angle) * radius, 5.0 * (1.0 - np.sin(angle) * radius)], 1)


def hidden(Y: np.ndarray, weight: float) -> np.ndarray:
    return np.asarray(weight * Y[..., 0] - (1.0 - weight) * Y[..., 1] / 5.0)


@pytest.mark.parametrize("weight", [0.8, 0.3])
def test_a_few_answers_find_the_best_trial(weight: float) -> None:
    Y = arc(20)
    pairs: list[tuple[int, int]] = []
    for _ in range(6):
        asked = question(TWO, Y, pairs)
        assert asked is not None
        a, b = asked
        pairs.append((a, b) if hidden(Y[a], weight) > hidden(Y[b], weight) else (b, a))
    learnt = Preference(TWO, Y, pairs)
    mean = learnt.mean(torch.as_tensor(utilities(TWO, Y))).detach().numpy()
    chosen = hidden(Y, weight)[int(np.argmax(mean))]
    assert chosen > hidden(Y, weight).max() - 0.05
    shares = learnt.shares()
    assert sum(shares.values()) == pytest.approx(1.0)
    assert (shares["a"] > 0.5) == (weight > 0.5)
    assert "6 ranked pairs" in learnt.told()
    assert learnt.spread > 0


def test_the_directions_of_the_goals_need_no_asking() -> None:
    Y = arc(12)
    learnt = Preference(TWO, Y, [(0, 1)])
    better = Y[5] + [0.3, -1.0]
    drawn = learnt.drawn(torch.as_tensor(utilities(TWO, np.stack([better, Y[5]]))))
    assert drawn.shape == (2, 16)
    assert float((drawn[0] > drawn[1]).double().mean()) > 0.8
    # beyond everything that was seen it goes on
    far = Y.max(axis=0) * [2.0, 0.0]
    assert float(learnt.mean(torch.as_tensor(utilities(TWO, far[None])))[0]) > 0


def test_only_what_a_person_has_to_say_is_asked() -> None:
    Y = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [0.5, 3.5]])
    first = question(TWO, Y, [])
    assert first is not None
    assert set(first) == {0, 2}
    for pairs in ([(0, 2)], [(0, 2), (1, 0)]):
        asked = question(TWO, Y, pairs)
        assert asked is not None
        assert 3 not in asked  # what is worse in everything is known to be worse
        assert set(asked) not in [set(p) for p in pairs]
    assert question(TWO, Y, [(0, 1), (1, 2), (2, 0)]) is None
    assert question(TWO, Y[:1], []) is None
    assert question(TWO, np.array([[1.0, np.nan], [2.0, 1.0]]), []) is None


def test_answers_that_contradict_each_other_are_noise() -> None:
    Y = arc(10)
    learnt = Preference(TWO, Y, [(0, 1), (1, 2), (2, 0), (0, 1)])
    assert torch.isfinite(learnt.mean(torch.as_tensor(utilities(TWO, Y)))).all()
    with pytest.raises(ValueError, match="all objectives"):
        Preference(TWO, np.array([[1.0, np.nan], [2.0, 1.0]]), [(0, 1)])
    with pytest.raises(ValueError, match="all objectives"):
        Preference(TWO, Y, [])


def outcome(design: dict[str, Any]) -> list[float]:
    """A front along y = 0.5: a and b both rise with x."""
    x, off = design["x"], (design["y"] - 0.5) ** 2
    return [float(np.sin(x * np.pi / 2) - off), float(5.0 * (1 - np.cos(x * np.pi / 2)) + 5 * off)]


def run(weight: float, asked: bool) -> np.ndarray:
    """What a campaign finds, in which a person with a linear utility answers two questions a batch.

    Not asked, they say nothing.
    """
    designs = [d for d in SPACE.sample(10, 1) if d is not None]
    pairs: list[tuple[int, int]] = []
    for turn in range(4):
        Y = np.array([outcome(d) for d in designs])
        for _ in range((3 if turn == 0 else 2) if asked else 0):
            pair = question(TWO, Y, pairs)
            assert pair is not None
            a, b = pair
            pairs.append((a, b) if hidden(Y[a], weight) > hidden(Y[b], weight) else (b, a))
        past = History(designs, Y, np.full_like(Y, np.nan), np.zeros(len(Y), dtype=bool),
                       preferences=list(pairs))  # fmt: skip
        found = propose(TWO, past, 4, seed=0, settings=QUICK)
        assert asked == ({c.method for c in found.candidates} == {"EUI"})
        designs += [c.design for c in found.candidates]
    return np.array([outcome(d) for d in designs[10:]])


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.75, 0.3])
def test_proposals_go_to_the_hidden_optimum(weight: float) -> None:
    wished, along = run(weight, True), run(weight, False)
    x = np.linspace(0, 1, 501)
    best = hidden(np.array([outcome({"x": v, "y": 0.5}) for v in x]), weight).max()
    regret, of_front = best - hidden(wished, weight), best - hidden(along, weight)
    assert regret.min() < 0.02
    assert np.median(regret[4:]) < 0.6 * np.median(of_front[4:])


def test_few_answers_or_pure_exploration_leave_it_as_it_is() -> None:
    designs = [d for d in SPACE.sample(12, 1) if d is not None]
    Y = np.array([outcome(d) for d in designs])
    past = History(designs, Y, np.full_like(Y, np.nan), np.zeros(len(Y), dtype=bool),
                   preferences=[(0, 1), (2, 1)])  # fmt: skip
    assert {c.method for c in propose(TWO, past, 2, 0, settings=QUICK).candidates} != {"EUI"}
    more = replace(past, preferences=[(0, 1), (2, 1), (2, 0)])
    found = propose(TWO, more, 2, 0, settings=QUICK)
    assert {c.method for c in found.candidates} == {"EUI"}
    assert any(note.startswith("chosen by what 3 ranked pairs say") for note in found.notes)
    assert all(c.notes["expected_gain"] >= 0 for c in found.candidates)
    again = propose(TWO, more, 2, 0, settings=QUICK)
    assert [c.design for c in found.candidates] == [c.design for c in again.candidates]
    explore = replace(QUICK, strategy="uncertainty")
    assert {c.method for c in propose(TWO, more, 2, 0, settings=explore).candidates} == {
        "uncertainty"
    }
