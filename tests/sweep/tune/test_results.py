"""What the best of many trials would be by chance alone: answers worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from tftjax.sweep.tune.results import chance_note, expected_lead, seed_spread


def test_the_best_of_equal_draws():
    # The mean of the largest of two normal draws is 1 / sqrt(pi), of three 3 / (2 sqrt(pi)).
    assert expected_lead(1) == pytest.approx(0.0, abs=1e-9)
    assert expected_lead(2) == pytest.approx(1 / math.sqrt(math.pi))
    assert expected_lead(3) == pytest.approx(1.5 / math.sqrt(math.pi))
    draws = np.random.default_rng(3).standard_normal((20_000, 61)).max(axis=1)
    assert expected_lead(61) == pytest.approx(draws.mean(), abs=4 * draws.std() / math.sqrt(len(draws)))


def test_the_spread_of_seeds_is_the_better_half_s():
    # Of 5 the best three: sqrt((9 + 16 + 0) / 3).
    assert seed_spread(np.array([3.0, 4.0, 0.0, 50.0, 90.0])) == pytest.approx(math.sqrt(25 / 3))
    assert seed_spread(np.array([7.0])) == 7.0


def frames():
    """Trials 3, 0, 1 are complete, 2 pruned, 4 failed; seeds spread by 2e-6."""
    rows = [(3, 0.00190), (0, 0.001901), (1, 0.00195)]
    complete = pd.DataFrame(
        [{"trial": n, "state": "complete", "pinball": loss, "seed_sd": 2e-6} for n, loss in rows]
    )
    others = pd.DataFrame([{"trial": 2, "state": "pruned"}, {"trial": 4, "state": "failed"}])
    return pd.concat([complete, others]), complete


def test_the_note_says_what_chance_explains():
    note = chance_note(*frames(), 4, 0)
    # Four were compared; the mean of the best of 4 normal draws is 1.0294; 1.0294 * 2e-6 / 2 = 0.00103e-3.
    assert "4 trials were compared" in note
    assert "spread by 0.0020 (standard deviation), means of 4 by 0.0010" in note
    assert "0.0010 below their mean" in note
    assert "2 complete trials lie within that of the best" in note
    assert "the best is 0.0010 below it: no more than chance gives" in note
    alone = chance_note(*frames(), 4, 1)
    assert "trial 1; the best is 0.0500 below it: more than chance gives" in alone
    assert "config as given" not in chance_note(*frames(), 4, None)
    assert "With one seed a trial nothing says" in chance_note(*frames(), 1, 0)
