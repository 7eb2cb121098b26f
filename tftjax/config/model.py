"""The section `model`: sizes of the network, and how attention treats old information and market regimes."""

import itertools
import math
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tftjax.config.section import Fraction, Section, Swept

MAX_THRESHOLDS = 2


class StalenessConfig(Section):
    """A penalty on logits by the age of low-frequency values, days since release; model/staleness.py.

    Attention of a step: minus weight * decay(age / scale), its age the mean of the low-frequency columns'.
    Selection of a variable: minus weight * (decay(age / scale) - decay(1 / scale)), its age in usual ages.
    """

    mode: Literal["none", "attention", "variable_selection"] = Field(
        "none",
        description="what old values cost: nothing, the attention to a step, or the selection of a variable",
    )
    decay: Literal["linear", "exponential", "log", "step"] = Field(
        "linear",
        description="of a = age / scale: a, 1 - 2^-a (scale is the half-life), log(1 + a), or 1 above scale",
    )
    per_head: bool = Field(False, description="a weight a head, in place of one for all; mode 'attention'")
    weight: Annotated[float, Swept("staleness_weight")] = Field(
        0.5, ge=0, le=1000, description="weight of the penalty, at the start; sane: 0.05 to 2"
    )
    gradient_scale: Annotated[float, Swept("staleness_gradient_scale")] = Field(
        10.0,
        ge=0,
        le=10_000,
        description="steps of the learned weight over the others'; 0 keeps it as it is; sane: 0, or 1 to 30",
    )
    scale: Annotated[
        Annotated[float, Field(gt=0, le=100_000)] | None, Swept("staleness_scale", value="used_scale")
    ] = Field(
        None,
        description="age that counts 1: days, in variable_selection usual ages; null: 30 days, 1 usual age",
    )

    @model_validator(mode="after")
    def _has_effect(self) -> "StalenessConfig":
        if self.mode == "none" and self != StalenessConfig.model_construct():
            raise ValueError("only \"mode\": \"none\", or set mode to 'attention' or 'variable_selection'")
        if self.mode == "variable_selection" and self.per_head:
            raise ValueError(
                "per_head false with mode 'variable_selection', where each variable has a weight"
            )
        return self

    @property
    def used_scale(self) -> float:
        """The scale that counts, days or usual ages."""
        return self.scale or (30.0 if self.mode == "attention" else 1.0)


class RegimeConfig(Section):
    """Gates on the attention heads that depend on the market's regime; model/regime.py."""

    by: Literal["none", "thresholds", "router"] = Field(
        "none", description="no gates, regimes by thresholds on a column, or by a learned soft router"
    )
    column: str | None = Field(
        None, min_length=1, description="an observed column, seen at the last encoder row; by 'thresholds'"
    )
    num_regimes: int = Field(
        2, ge=2, le=8, description="gates a head; thresholds make one more than they are"
    )
    thresholds: Annotated[
        tuple[Annotated[float, Field(ge=-1e9, le=1e9)], ...],
        Swept("regime_low", "regime_high", value="bounds"),
    ] = Field(
        (), description="one or two, ascending, in the column's unit; a value above one is in the next regime"
    )
    renormalise: bool = Field(
        False, description="gates as shares of the heads, whose sum stays; false: free, one may change sign"
    )
    gradient_scale: Annotated[float, Swept("regime_gradient_scale")] = Field(
        10.0, ge=0, le=10_000, description="steps of the gates over those of other parameters; sane: 1 to 30"
    )
    balance_weight: Annotated[float, Swept] = Field(
        0.0, ge=0, le=1000, description="weight of the penalty on a router that prefers regimes; sane: 0 to 1"
    )

    @field_validator("thresholds")
    @classmethod
    def _one_less_than_regimes(cls, thresholds: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        count = info.data.get("num_regimes")
        if info.data.get("by") != "thresholds":
            if thresholds:
                raise ValueError("[], or set model.attention.regime.by to 'thresholds'")
            return thresholds
        if not 1 <= len(thresholds) <= MAX_THRESHOLDS:
            raise ValueError("one or two thresholds")
        if any(high <= low for low, high in itertools.pairwise(thresholds)):
            raise ValueError("thresholds in ascending order")
        if count is not None and count != len(thresholds) + 1:
            raise ValueError(
                f"{count - 1} threshold(s) for model.attention.regime.num_regimes {count} (these make"
                f" {len(thresholds) + 1} regimes)"
            )
        return thresholds

    @model_validator(mode="after")
    def _has_effect(self) -> "RegimeConfig":
        if self.by == "none" and self != RegimeConfig.model_construct():
            raise ValueError("only \"by\": \"none\", or set by to 'thresholds' or 'router'")
        if (self.by == "thresholds") != (self.column is not None):
            raise ValueError("a column with by 'thresholds', and only there")
        if self.balance_weight and self.by != "router":
            raise ValueError("balance_weight 0, or by 'router'")
        return self

    @property
    def bounds(self) -> tuple[float, ...]:
        """The thresholds, filled up with infinity to MAX_THRESHOLDS."""
        return (*self.thresholds, *(math.inf,) * MAX_THRESHOLDS)[:MAX_THRESHOLDS]


class AttentionConfig(Section):
    """Variants of the attention; the defaults are the paper's."""

    staleness: StalenessConfig = Field(StalenessConfig(), description="what old values cost")
    regime: RegimeConfig = Field(RegimeConfig(), description="heads by market regime")


PLAIN = AttentionConfig()  # the paper's attention


class ModelConfig(Section):
    """Sizes of the network; each change here is another compiled program, but for its floats."""

    hidden_size: int = Field(16, ge=1, le=1024, description="units, a multiple of num_heads; sane: 8 to 128")
    num_heads: int = Field(2, ge=1, le=64, description="attention heads; sane: 1 to 8")
    dropout_rate: Annotated[float, Swept] = Field(
        0.15, ge=0, le=0.95, description="share of units dropped; sane: 0 to 0.5"
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="numbers that the network's matrix products are computed in; parameters, normalisation,"
        " softmax, quantiles and loss are float32 with either; bfloat16 is for GPUs",
    )
    lstm_layers: int = Field(1, ge=1, le=8, description="layers; sane: 1 or 2")
    encoder_length: int = Field(20, ge=1, le=4096, description="rows of the past seen; sane: 10 to 252")
    min_encoder_length: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        None,
        description="fewest rows of the past that a window needs, at most encoder_length; where a series has"
        " just begun, the steps that lack up to encoder_length are masked; null: encoder_length",
    )
    prediction_length: int = Field(1, ge=1, le=512, description="rows forecast; sane: 1 to 20")
    attention_mask: Literal["causal", "strict", "none"] = Field(
        "causal", description="steps that a prediction step sees: up to itself, before itself, all"
    )
    attention: AttentionConfig = Field(
        AttentionConfig(), description="what old values cost, and heads by market regime"
    )
    quantiles: tuple[Fraction, ...] = Field(
        (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98), description="levels forecast, ascending, 0.5 among them"
    )
    quantile_head: Literal["independent", "monotone", "correction", "student_t"] = Field(
        "independent",
        description="each quantile by itself, as in the paper; the median and steps away from it, which never"
        " cross; a correction of the target's scale times the train rows' quantiles, zero at the start; or a"
        " correction of the scale times the train rows' Student t, whose quantiles any level has",
    )

    @property
    def corrects(self) -> bool:
        """Whether the head corrects a classical forecast."""
        return self.quantile_head in ("correction", "student_t")

    @property
    def fewest_rows(self) -> int:
        """The fewest rows of the past that a window needs."""
        return self.min_encoder_length or self.encoder_length

    @field_validator("min_encoder_length")
    @classmethod
    def _within_the_encoder(cls, fewest: int | None, info: ValidationInfo) -> int | None:
        encoder_length = info.data.get("encoder_length")
        if fewest is not None and encoder_length is not None and fewest > encoder_length:
            raise ValueError(f"at most model.encoder_length ({encoder_length})")
        return fewest

    @field_validator("num_heads")
    @classmethod
    def _divides_hidden_size(cls, num_heads: int, info: ValidationInfo) -> int:
        hidden_size = info.data.get("hidden_size")
        if hidden_size is not None and hidden_size % num_heads:
            raise ValueError(f"a divisor of model.hidden_size ({hidden_size})")
        return num_heads

    @field_validator("quantiles")
    @classmethod
    def _ascending_with_median(cls, quantiles: tuple[float, ...]) -> tuple[float, ...]:
        ascending = all(low < high for low, high in itertools.pairwise(quantiles))
        if not ascending or 0.5 not in quantiles:
            raise ValueError("strictly ascending levels between 0 and 1, with 0.5 among them")
        return quantiles
