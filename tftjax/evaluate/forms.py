"""Forms of metrics.json and notes.json, to check files that a hand or a disk may have changed."""

from typing import Annotated, Any

import pydantic

from tftjax.evaluate.quality import MODES


def _level(text: str) -> str:
    float(text)
    return text


def _with_modes(shares: dict[str, Any]) -> dict[str, Any]:
    lacking = [mode for mode in MODES if mode not in shares]
    if lacking:
        raise ValueError(f"lacks {', '.join(lacking)}")
    return shares


Number = float | None  # None is undefined
Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]
ByLevel = dict[Annotated[str, pydantic.AfterValidator(_level)], Finite]
Shares = Annotated[dict[str, Number], pydantic.AfterValidator(_with_modes)]


class Form(pydantic.BaseModel):
    """An object that may have other keys, too."""

    model_config = pydantic.ConfigDict(extra="allow")


class Notes(Form):
    """notes.json; see evaluate/evaluation.py."""

    left_out: dict[str, str]
    volatility_column: str | None
    foreign: dict[str, str] = {}


class Scored(Form):
    """METRICS of a forecast."""

    __pydantic_extra__: dict[str, Number | dict[str, Number]]
    pinball: Finite
    pinball_by_quantile: ByLevel
    coverage: ByLevel
    pit_histogram: dict[str, Finite]
    sigma: Finite
    directional_accuracy: Number = None
    directional_base_rate: Number = None
    correlation: Number = None

    @pydantic.model_validator(mode="after")
    def _has_a_bin_between_levels(self) -> "Scored":
        bins, levels = len(self.pit_histogram), len(self.pinball_by_quantile)
        if bins != levels + 1:
            raise ValueError(f"pit_histogram has {bins} bins for {levels} quantiles")
        return self


class P(Form):
    """A test of a forecast."""

    p: Number


class Difference(P):
    """Diebold and Mariano's test against a baseline."""

    difference: Finite
    low: Number
    high: Number


class ValueAtRisk(Form):
    """The tests of an outer quantile."""

    violations: int
    expected: float
    kupiec_p: Number
    independence_p: Number
    coverage_p: Number


class Tests(Form):
    """The tests of a split."""

    days: int
    diebold_mariano: dict[str, Difference]
    confidence_set: dict[str, Finite] = {}
    value_at_risk: dict[str, ValueAtRisk] = {}
    pit: P = P(p=None)
    pesaran_timmermann: P = P(p=None)


class Position(Form):
    """The earnings of a position."""

    sharpe: Number
    low: Number
    high: Number
    turnover: Number


class Taken(Position):
    """The earnings of a position that the forecast led to, beside buy and hold."""

    excess: Number
    excess_low: Number
    excess_high: Number


class Trading(Form):
    """The earnings of positions."""

    cost: float
    sign: Taken
    scaled: Taken
    buy_and_hold: Position


class OfRegime(Form):
    """The part of a regime, without metrics where it has no window."""

    windows: int
    pinball: Number = None
    baselines: dict[str, dict[str, Any]] = {}
    foreign: dict[str, dict[str, Any]] = {}


class CombinationTests(Tests):
    """The tests of a combination."""

    model: Difference


class Combination(Form):
    """The model combined with the best forecasts beside it."""

    weights: dict[str, Finite]
    metrics: Scored
    tests: CombinationTests


class Encompassed(P):
    """A test of whether the model adds anything to a forecast."""

    weight: Number
    slope: Finite


class Judged(Scored):
    """A split of metrics.json."""

    baselines: dict[str, Scored]
    foreign: dict[str, Scored] = {}
    combination: Combination = None
    encompassing: dict[str, Encompassed] = {}
    tests: Tests
    trading: Trading
    quality: Shares
    quality_random: Shares
    regimes: dict[str, dict[str, OfRegime]] = {}

    @pydantic.model_validator(mode="after")
    def _tests_each_other(self) -> "Judged":
        if self.baselines.keys() | self.foreign.keys() != self.tests.diebold_mariano.keys():
            raise ValueError("baselines and foreign, and tests.diebold_mariano, have different names")
        return self


class JudgedByRegime(Judged):
    """A split of a run's metrics.json."""

    regimes: dict[str, dict[str, OfRegime]]
