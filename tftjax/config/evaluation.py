"""The section `evaluation`: how forecasts are judged."""

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from tftjax.config.section import Section


class EvaluationConfig(Section):
    """Limits of the quality modes (evaluate/quality.py), cost of trading (evaluate/trading.py)."""

    quality_window: int = Field(
        60, ge=5, le=10_000, description="rows of a rolling window that gets a quality mode; sane: 20 to 250"
    )
    # The spread of the target, in the same window, is the unit of the three ratios: of a median that
    # is the true conditional mean, the ratio of the spreads is its correlation with the target.
    min_std_ratio: float = Field(
        0.05, ge=0, le=10, description="collapse: standard deviation of the medians, in target spreads, below"
    )
    min_range_ratio: float = Field(
        0.2, ge=0, le=100, description="collapse: range of the medians, in target spreads, below"
    )
    min_step_ratio: float = Field(
        0.01, ge=0, le=10, description="collapse: mean step between medians, in target spreads, below"
    )
    max_one_sign: float = Field(
        0.98, ge=0.5, le=1, description="unidirectional: share of medians of one sign above"
    )
    degraded_accuracy: float = Field(
        0.48, ge=0, le=1, description="degraded: share of the target's signs that the median has below"
    )
    healthy_accuracy: float = Field(
        0.52, ge=0, le=1, description="healthy: share of the target's signs that it has above"
    )
    trading_cost: float = Field(
        0.0001, ge=0, le=0.1, description="cost of trading, a share of what is traded; sane: 0 to 0.002"
    )

    conformal: Literal["none", "split", "adaptive"] = Field(
        "none",
        description="a calibrated forecast beside the model's: none, by the validation rows (split), or from"
        " there on by each outcome as it becomes known (adaptive)",
    )

    @field_validator("healthy_accuracy")
    @classmethod
    def _healthy_above_degraded(cls, healthy_accuracy: float, info: ValidationInfo) -> float:
        degraded = info.data.get("degraded_accuracy")
        if degraded is not None and healthy_accuracy < degraded:
            raise ValueError(f"at least evaluation.degraded_accuracy ({degraded:g})")
        return healthy_accuracy


def outermost(quantiles: Sequence[float]) -> float:
    """The level that is nearest to 0 or 1."""
    return min(quantiles, key=lambda level: min(level, 1 - level))


def conformal_rows(quantiles: Sequence[float]) -> int:
    """The least number of validation windows that a conformal calibration of levels needs.

    >>> conformal_rows((0.02, 0.5, 0.9))
    49
    """
    level = outermost(quantiles)
    return math.ceil(1 / min(level, 1 - level) - 1e-6) - 1
