"""The sections `loss`, `train` and `evaluation`: what is minimised, how, and how forecasts are judged."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from tftjax.config_section import Section


class LossConfig(Section):
    """L = QL + mean_weight * (mu - target_mean)^2 + std_weight * (sigma - target_std)^2 + further penalties.

    What each penalty asks for, and when a good forecaster violates it: see `PENALTIES` in losses.py.
    """

    mean_weight: float = Field(0.0, ge=0, le=1e6, description="weight of the mean penalty; sane: 0 to 1")
    std_weight: float = Field(0.0, ge=0, le=1e6, description="weight of the spread penalty; sane: 0 to 1")
    marginal_weight: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="weight of the penalty on mean and spread of the whole pooled forecast; sane: 0 to 1",
    )
    directional_weight: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="weight of the penalty on median forecasts of one sign; the same in both scales;"
        " sane: 0 to 10",
    )
    directional_threshold: float = Field(
        0.8, ge=0.5, le=1, description="share of one sign above which that penalty begins; sane: 0.6 to 0.95"
    )
    crossing_weight: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="weight of the penalty on crossing quantiles; the same in both scales; sane: 0 to 10",
    )
    target_mean: float = Field(
        0.0003, ge=-1, le=1, description="return as a decimal (0.01 is one percent); sane: -0.001 to 0.001"
    )
    target_std: float = Field(
        0.01, gt=0, le=1, description="return as a decimal (0.01 is one percent); sane: 0.001 to 0.05"
    )
    scale: Literal["return", "standardized"] = Field(
        "return", description="'standardized' divides every quantity by target_std: weights are pure numbers"
    )


class TrainConfig(Section):
    """How the network is trained."""

    # A field that is checked against others stands below them.
    batch_size: int = Field(64, ge=1, le=65536, description="windows a step; sane: 16 to 1024")
    learning_rate: float = Field(5e-4, gt=0, le=1, description="peak step size; sane: 1e-4 to 1e-2")
    schedule: Literal["constant", "warmup_cosine"] = Field("constant", description="of the learning rate")
    max_epochs: int = Field(100, ge=1, le=100_000, description="epochs; sane: 20 to 300")
    warmup_epochs: int = Field(
        0, ge=0, le=100_000, description="epochs, fewer than max_epochs; 0 unless schedule is 'warmup_cosine'"
    )
    optimizer: Literal["adam", "adamw"] = Field("adam", description="adamw decays the weights, decoupled")
    weight_decay: float = Field(
        0.0,
        ge=0,
        le=10,
        description="decay a unit of learning rate; 0 unless optimizer is 'adamw'; sane: 0 to 0.1",
    )
    max_grad_norm: float = Field(
        0.1,
        gt=0,
        le=1e6,
        description="clip at this global norm of the gradient of L / target_std; sane: 0.05 to 10",
    )
    patience: int = Field(
        10,
        ge=1,
        le=100_000,
        description="epochs without a better validation loss before stopping; sane: 5 to 30",
    )
    seed: int = Field(42, ge=0, le=2**31 - 1, description="start of all randomness")
    checkpoint_every: int = Field(1, ge=1, le=100_000, description="epochs between checkpoints")
    init_from: str | None = Field(
        None,
        min_length=1,
        description="directory of a run whose best parameters this one starts from, matched by path; null:"
        " drawn by the seed",
    )
    # Patterns as in a shell, for paths of parameters such as 'encoder_selection/variables/w1/kernel'; *
    # matches slashes too. A parameter that several patterns match gets their product.
    freeze: tuple[str, ...] = Field(
        (), description="patterns of parameters that stay as they start, such as 'embedding*'"
    )
    lr_multipliers: dict[str, Annotated[float, Field(ge=0, le=1000)]] = Field(
        {}, description="by pattern of parameters, what learning rate and decay are multiplied by"
    )
    gradient_scales: dict[str, Annotated[float, Field(ge=0, le=1000)]] = Field(
        {},
        description="by pattern of parameters, what the gradient is multiplied by before the clip; Adam"
        " undoes it for the rest: to slow a part down, use lr_multipliers",
    )

    @field_validator("warmup_epochs")
    @classmethod
    def _warmup_fits(cls, warmup_epochs: int, info: ValidationInfo) -> int:
        schedule, max_epochs = info.data.get("schedule"), info.data.get("max_epochs")
        if warmup_epochs and schedule == "constant":
            raise ValueError("0, or set train.schedule to 'warmup_cosine' (it is 'constant')")
        if max_epochs is not None and warmup_epochs >= max_epochs:
            raise ValueError(f"fewer than train.max_epochs ({max_epochs})")
        return warmup_epochs

    @field_validator("weight_decay")
    @classmethod
    def _decay_has_effect(cls, weight_decay: float, info: ValidationInfo) -> float:
        if weight_decay and info.data.get("optimizer") == "adam":
            raise ValueError("0, or set train.optimizer to 'adamw' (it is 'adam')")
        return weight_decay


class EvaluationConfig(Section):
    """How forecasts are judged: quality modes (quality.py) and the cost of trading (trading.py)."""

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
    healthy_accuracy: float = Field(0.52, ge=0, le=1, description="healthy: that share above")
    trading_cost: float = Field(
        0.0001, ge=0, le=0.1, description="cost of trading, a share of what is traded; sane: 0 to 0.002"
    )

    @field_validator("healthy_accuracy")
    @classmethod
    def _healthy_above_degraded(cls, healthy_accuracy: float, info: ValidationInfo) -> float:
        degraded = info.data.get("degraded_accuracy")
        if degraded is not None and healthy_accuracy < degraded:
            raise ValueError(f"at least evaluation.degraded_accuracy ({degraded:g})")
        return healthy_accuracy
