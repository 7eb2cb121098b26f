"""The section `model.attention`: how attention treats old information and market regimes."""

import itertools
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tftjax.config_section import Section

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
    weight: float = Field(0.5, ge=0, le=1000, description="of the penalty, at the start; sane: 0.05 to 2")
    gradient_scale: float = Field(
        10.0,
        ge=0,
        le=10_000,
        description="steps of the learned weight over the others'; 0 keeps it as it is; sane: 0, or 1 to 30",
    )
    scale: Annotated[float, Field(gt=0, le=100_000)] | None = Field(
        None, description="days, in variable_selection usual ages; null: 30 days, 1 usual age"
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
    thresholds: tuple[Annotated[float, Field(ge=-1e9, le=1e9)], ...] = Field(
        (), description="one or two, ascending, in the column's unit; a value above one is in the next regime"
    )
    renormalise: bool = Field(
        False, description="gates as shares of the heads, whose sum stays; false: free, one may change sign"
    )
    gradient_scale: float = Field(
        10.0, ge=0, le=10_000, description="steps of the gates over those of other parameters; sane: 1 to 30"
    )
    balance_weight: float = Field(
        0.0, ge=0, le=1000, description="of the penalty on a router that prefers regimes; sane: 0 to 1"
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


class AttentionConfig(Section):
    """Variants of the attention; the defaults are the paper's."""

    staleness: StalenessConfig = Field(StalenessConfig(), description="what old values cost")
    regime: RegimeConfig = Field(RegimeConfig(), description="heads by market regime")


PLAIN = AttentionConfig()  # the paper's
