"""The section `loss`: what is minimised."""

from typing import Annotated, Literal

from pydantic import Field

from tftjax.config.section import Section, Swept


class LossConfig(Section):
    """L = QL + mean_weight * (mu - target_mean)^2 + std_weight * (sigma - target_std)^2 + further penalties.

    What each penalty asks for, and when a good forecaster violates it: see `PENALTIES` in train/losses.py.
    """

    mean_weight: Annotated[float, Swept] = Field(
        0.0, ge=0, le=1e6, description="weight of the mean penalty; sane: 0 to 1"
    )
    std_weight: Annotated[float, Swept] = Field(
        0.0, ge=0, le=1e6, description="weight of the spread penalty; sane: 0 to 1"
    )
    marginal_weight: Annotated[float, Swept] = Field(
        0.0,
        ge=0,
        le=1e6,
        description="weight of the penalty on mean and spread of the whole pooled forecast; sane: 0 to 1",
    )
    directional_weight: Annotated[float, Swept] = Field(
        0.0,
        ge=0,
        le=1e6,
        description="weight of the penalty on median forecasts of one sign; the same in both scales;"
        " sane: 0 to 10",
    )
    directional_threshold: Annotated[float, Swept] = Field(
        0.8,
        ge=0.5,
        le=1,
        description="share of one sign where that penalty begins; sane: 0.6 to 0.95",
    )
    crossing_weight: Annotated[float, Swept] = Field(
        0.0,
        ge=0,
        le=1e6,
        description="weight of the penalty on crossing quantiles; the same in both scales; sane: 0 to 10",
    )
    correction_weight: Annotated[float, Swept] = Field(
        0.0,
        ge=0,
        le=1e6,
        description="weight of the mean square of what a quantile head that corrects adds, in scaled units;"
        " sane: 0 to 1",
    )
    unit: Literal["return", "scale"] = Field(
        "return",
        description="unit of the pinball loss: returns, where stormy days outweigh all others, or the"
        " target's scale at each window; target_std times it, so that numbers stay comparable",
    )
    objective: Literal["pinball", "likelihood"] = Field(
        "pinball",
        description="what is minimised: the pinball loss of the quantiles, or the negative log-likelihood of"
        " the Student t that a head 'correction' or 'student_t' stands for; validation judges quantiles",
    )
    horizon_weights: dict[str, Annotated[float, Field(ge=0, le=1e6)]] = Field(
        {},
        description="by step of the forecast, from 1, its weight in the loss beside the others'; 1 where left"
        " out, and scaled so that their mean is 1",
    )
    own_weights: dict[str, Annotated[float, Field(ge=0, le=1e6)]] = Field(
        {}, description="weights of penalties that were handed to tftjax.fit, by name; 1 where left out"
    )
    target_mean: Annotated[float, Swept] = Field(
        0.0003, ge=-1, le=1, description="return as a decimal (0.01 is one percent); sane: -0.001 to 0.001"
    )
    target_std: Annotated[float, Swept] = Field(
        0.01,
        gt=0,
        le=1e9,
        description="return as a decimal (0.01 is one percent), or in the target's unit; sane: 0.001 to 0.05."
        " Where no penalty has a weight, the train target's own is taken for one more than a factor 5 off",
    )
    scale: Literal["return", "standardized"] = Field(
        "return", description="'standardized' divides every quantity by target_std: weights are pure numbers"
    )

    def weights_of(self, steps: int) -> tuple[float, ...]:
        """The weight of each step of a forecast, from the first, with mean 1 if any is above 0."""
        given = [self.horizon_weights.get(str(step), 1.0) for step in range(1, steps + 1)]
        mean = sum(given) / steps
        return tuple(weight / mean if mean else 0.0 for weight in given)
