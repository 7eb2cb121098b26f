"""The section `train`: how the loss is minimised."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from tftjax.config.section import Section, Swept


class TrainConfig(Section):
    """Settings of the training."""

    # A field that is checked against others stands below them.
    batch_size: int = Field(64, ge=1, le=65536, description="windows a step; sane: 16 to 1024")
    learning_rate: Annotated[float, Swept] = Field(
        5e-4, gt=0, le=1, description="peak step size; sane: 1e-4 to 1e-2"
    )
    schedule: Literal["constant", "warmup_cosine"] = Field(
        "constant", description="course of the learning rate"
    )
    max_epochs: int = Field(100, ge=1, le=100_000, description="epochs; sane: 20 to 300")
    stop_after: int | None = Field(
        None,
        ge=1,
        description="epochs after which training ends; at most max_epochs, over which the schedule goes;"
        " null: max_epochs; what --final sets",
    )
    max_steps: int | None = Field(
        None,
        ge=1,
        description="optimizer steps after which training ends, in the middle of an epoch if need be; null:"
        " after max_epochs",
    )
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay a step of an exponential average of the parameters, which is validated beside them"
        " and kept where it is better, or by train.keep 'last'; 0: none; sane: 0.9 to 0.999",
    )
    keep: Literal["best", "last"] = Field(
        "best",
        description="parameters that are kept: those of the lowest validation loss, or the last, and"
        " patience ends nothing",
    )
    half_life: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        None, description="years after which a train window counts half as much in the loss; null: all alike"
    )
    static_dropout: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of train windows in which a static category, the id too, is hidden, as in a series"
        " that was not in training: needed to forecast such; 0: none; 1: the model never sees one; sane: 0,"
        " or 0.1 to 1",
    )
    category_dropout: Annotated[float, Swept(switch=True)] = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the categories of observed and known columns that are hidden, each in all steps"
        " of a train window, as one that was not in training: trains what such a one means; sane: 0 to 0.2",
    )
    short_windows: Annotated[float, Swept(switch=True)] = Field(
        0.0,
        ge=0,
        le=1,
        description="share of train windows that are cut at random, to model.min_encoder_length rows of the"
        " past or more, as where a series has just begun; sane: 0 to 0.5",
    )
    known_dropout: Annotated[float, Swept(switch=True)] = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of train windows in which each known number is unknown at the steps ahead: trains"
        " what a missing one means; 0 unless data.missing_known is 'mask'; sane: 0 to 0.3",
    )
    warmup_epochs: int = Field(
        0,
        ge=0,
        le=100_000,
        description="warm-up epochs, below max_epochs; 0 unless schedule is 'warmup_cosine'",
    )
    warmup_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="warm-up as a share of the run, in place of warmup_epochs; 0 unless schedule is"
        " 'warmup_cosine'",
    )
    optimizer: Literal["adam", "adamw"] = Field("adam", description="adamw decays the weights, decoupled")
    weight_decay: Annotated[float, Swept] = Field(
        0.0,
        ge=0,
        le=10,
        description="weights' decay a unit of learning rate; 0 unless optimizer is 'adamw'; sane: 0 to 0.1",
    )
    max_grad_norm: Annotated[float, Swept] = Field(
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

    @property
    def last_epoch(self) -> int:
        """The epoch after which training ends, unless `patience` ends it before."""
        return self.max_epochs if self.stop_after is None else self.stop_after

    @field_validator("stop_after")
    @classmethod
    def _stops_in_time(cls, stop_after: int | None, info: ValidationInfo) -> int | None:
        max_epochs = info.data.get("max_epochs")
        if stop_after is not None and max_epochs is not None and stop_after > max_epochs:
            raise ValueError(f"at most train.max_epochs ({max_epochs})")
        return stop_after

    @field_validator("warmup_epochs")
    @classmethod
    def _warmup_fits(cls, warmup_epochs: int, info: ValidationInfo) -> int:
        schedule, max_epochs = info.data.get("schedule"), info.data.get("max_epochs")
        if warmup_epochs and schedule == "constant":
            raise ValueError("0, or set train.schedule to 'warmup_cosine' (it is 'constant')")
        if max_epochs is not None and warmup_epochs >= max_epochs:
            raise ValueError(f"fewer than train.max_epochs ({max_epochs})")
        return warmup_epochs

    @field_validator("warmup_share")
    @classmethod
    def _one_warmup(cls, warmup_share: float, info: ValidationInfo) -> float:
        if warmup_share and info.data.get("schedule") == "constant":
            raise ValueError("0, or set train.schedule to 'warmup_cosine' (it is 'constant')")
        if warmup_share and info.data.get("warmup_epochs"):
            raise ValueError(f"0, or set train.warmup_epochs (now {info.data['warmup_epochs']}) to 0")
        return warmup_share

    @field_validator("weight_decay")
    @classmethod
    def _decay_has_effect(cls, weight_decay: float, info: ValidationInfo) -> float:
        if weight_decay and info.data.get("optimizer") == "adam":
            raise ValueError("0, or set train.optimizer to 'adamw' (it is 'adam')")
        return weight_decay
