"""Quality modes: each on a window made for it, by hand, and at the thresholds."""

import numpy as np
import pytest

from tftjax.config.evaluation import EvaluationConfig
from tftjax.config.loading import Config, from_dict
from tftjax.errors import UserError
from tftjax.evaluate.quality import (
    MODES,
    quality_modes,
    random_modes,
    rolling,
    shares,
    structural_collapses,
)

# Ten rows a window; the target's spread is 1.
SETTINGS = EvaluationConfig(quality_window=10)
TARGET = np.array([1.0, -1, 1, -1, 1, -1, 1, -1, 1, -1])
ZIGZAG = np.array([1.0, -1, 1, -1, 1, -1, -1, 1, -1, 1])  # right six times of ten, correlation 0.2


def mode_of(median, target=TARGET, settings=SETTINGS):
    (mode,) = quality_modes(np.asarray(median, float), np.asarray(target, float), settings)
    return MODES[mode]


@pytest.mark.parametrize(
    ("median", "mode"),
    [
        (np.full(10, 0.3), "STRONG_COLLAPSE"),
        (np.zeros(10), "STRONG_COLLAPSE"),
        (0.001 * TARGET, "STRONG_COLLAPSE"),  # right every time, and next to no spread
        (0.04 * TARGET, "WEAK_COLLAPSE"),  # deviation 0.04, range 0.08, but steps of 0.08
        (0.2 + 0.15 * ZIGZAG, "UNIDIRECTIONAL"),
        (-ZIGZAG, "DEGRADED"),
        (np.where(TARGET * ZIGZAG > 0, ZIGZAG, 9 * ZIGZAG), "DEGRADED"),  # right in 60 %, correlation below 0
        (ZIGZAG, "HEALTHY"),
        (0.2 * ZIGZAG, "HEALTHY"),
        (np.array([3.0, -1, 1, -1, 1, 1, -1, 1, -1, 1]), "NEUTRAL"),  # right in 50 %, correlation above 0
        (0.09 * ZIGZAG, "NEUTRAL"),  # deviation 0.09, but range 0.18: one method is no collapse, nor health
    ],
)
def test_modes(median, mode):
    assert mode_of(median) == mode
    # All is relative to the target: no unit matters.
    assert mode_of(100 * np.asarray(median), 100 * TARGET) == mode


def test_smooth_medians_are_collapsed_by_their_steps_alone():
    median = np.linspace(-0.4, 0.4, 101)
    target = np.tile([1.0, -1], 51)[:101]
    counted = structural_collapses(rolling(median, 101), target.std(keepdims=True), SETTINGS)
    np.testing.assert_array_equal(counted, [1])
    assert mode_of(median, target, EvaluationConfig(quality_window=101)) != "HEALTHY"


def test_thresholds_are_the_settings():
    # Deviation 0.1, range 0.2, steps 0.2.
    median, spread = rolling(0.1 * TARGET, 10), TARGET.std(keepdims=True)
    for name, value in (("min_std_ratio", 0.1), ("min_range_ratio", 0.2), ("min_step_ratio", 0.2)):
        none = {"min_std_ratio": 0.0, "min_range_ratio": 0.0, "min_step_ratio": 0.0}
        at = EvaluationConfig(**none | {name: value * (1 + 1e-9)})
        below = EvaluationConfig(**none | {name: value * (1 - 1e-9)})
        assert structural_collapses(median, spread, at) == [1]
        assert structural_collapses(median, spread, below) == [0]
    assert mode_of(ZIGZAG, settings=EvaluationConfig(quality_window=10, healthy_accuracy=0.61)) == "NEUTRAL"
    low = EvaluationConfig(quality_window=10, degraded_accuracy=0.61, healthy_accuracy=0.61)
    assert mode_of(ZIGZAG, settings=low) == "DEGRADED"
    one_sign = EvaluationConfig(quality_window=10, max_one_sign=0.5)
    assert mode_of(np.where(np.arange(10) == 1, -1.0, TARGET**2 + 0.5 * TARGET), settings=one_sign) == (
        "UNIDIRECTIONAL"
    )


def test_windows_roll_by_one_row():
    median = np.concatenate([ZIGZAG, np.full(10, 0.1)])
    modes = quality_modes(median, np.tile(TARGET, 2), SETTINGS)
    assert len(modes) == 11
    assert (MODES[modes[0]], MODES[modes[-1]]) == ("HEALTHY", "STRONG_COLLAPSE")
    assert len(quality_modes(median[:9], median[:9], SETTINGS)) == 0


def test_windows_are_independent_of_each_other():
    """Each mode is that of the window alone, also in a random forecast of several draws."""
    rng = np.random.default_rng(5)
    target = rng.normal(size=71)
    median = np.where(np.arange(71) < 23, 0.3, rng.normal(size=71) + np.where(np.arange(71) < 51, 0, target))
    alone = [MODES.index(mode_of(median[at : at + 10], target[at : at + 10])) for at in range(62)]
    np.testing.assert_array_equal(quality_modes(median, target, SETTINGS), alone)
    assert len(set(alone)) > 3
    pairs = [(median[:9], target[:9]), (median, target)]  # the first is too short for a window
    draws = np.random.default_rng(0)
    expected = []
    for values, actual in pairs:
        for _ in range(25):
            drawn = draws.normal(values.mean(), values.std(), len(values))
            expected += [
                MODES.index(mode_of(drawn[at : at + 10], actual[at : at + 10]))
                for at in range(len(drawn) - 9)
            ]
    np.testing.assert_array_equal(random_modes(pairs, SETTINGS), expected)


def test_a_target_that_stands_still_divides_by_nothing():
    still = np.full(10, 0.01)
    assert mode_of(ZIGZAG, 0 * still) == "NEUTRAL"
    assert mode_of(-ZIGZAG, still) == "NEUTRAL"
    assert mode_of(0 * still, still) == "STRONG_COLLAPSE"


def test_correlation_of_tiny_medians_has_its_sign():
    settings = EvaluationConfig(quality_window=10, min_std_ratio=0.0, min_range_ratio=0.0, min_step_ratio=0.0)
    against = np.where(TARGET * ZIGZAG > 0, ZIGZAG, 9 * ZIGZAG)  # right in 60 %, correlation below 0
    assert mode_of(1e-200 * against, settings=settings) == "DEGRADED"
    assert mode_of(1e-200 * ZIGZAG, settings=settings) == "NEUTRAL"


def test_shares():
    assert shares(np.array([0, 4, 4, 5])) == {
        "STRONG_COLLAPSE": 0.25,
        "WEAK_COLLAPSE": 0.0,
        "UNIDIRECTIONAL": 0.0,
        "DEGRADED": 0.0,
        "HEALTHY": 0.5,
        "NEUTRAL": 0.25,
    }
    assert set(shares(np.empty(0, np.int64)).values()) == {None}


def test_a_random_forecaster_has_the_same_mean_and_sigma():
    rng = np.random.default_rng(1)
    target = rng.normal(0, 0.01, 800)
    settings = EvaluationConfig()
    skilled, collapsed = 0.01 * rng.normal(size=800) + target, np.full(800, 0.01)
    one_sided = 0.005 + 0.001 * rng.normal(size=800)
    healthy = shares(random_modes([(skilled, target)], settings))["HEALTHY"]
    assert shares(quality_modes(skilled, target, settings))["HEALTHY"] > 0.95
    assert 0.15 < healthy < 0.45
    assert shares(random_modes([(collapsed, target)], settings))["STRONG_COLLAPSE"] == 1
    assert shares(random_modes([(one_sided, target)], settings))["UNIDIRECTIONAL"] == 1
    np.testing.assert_array_equal(
        random_modes([(skilled, target)], settings), random_modes([(skilled, target)], settings)
    )


def test_thresholds_that_contradict_each_other_are_refused():
    with pytest.raises(
        UserError, match=r"evaluation.healthy_accuracy: found 0.4.*degraded_accuracy \(0.48\)"
    ):
        from_dict({"evaluation": {"healthy_accuracy": 0.4}}, "x")
    assert Config().evaluation.quality_window == 60
