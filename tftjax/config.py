"""Frozen, strict configuration models: one JSON file a run, one model a section."""

import argparse
import datetime
import hashlib
import itertools
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pydantic
from pydantic import Field, ValidationInfo, field_validator

from tftjax.config_attention import AttentionConfig
from tftjax.config_errors import UserError, explain, nearest, show
from tftjax.config_section import Section

Fraction = Annotated[float, Field(gt=0, lt=1)]


class ColumnsConfig(Section):
    """The roles of the columns of a table of one's own."""

    date: str = Field("date", min_length=1, description="the column of dates, YYYY-MM-DD, ascending")
    id: str | None = Field(
        None, min_length=1, description="in a table of several series, the column that names a row's series"
    )
    target: str = Field(min_length=1, description="what is forecast, a return")
    observed: tuple[str, ...] = Field((), description="numbers known up to the day of the forecast")
    known_real: tuple[str, ...] = Field((), description="numbers known beforehand, such as days to a holiday")
    known_categorical: tuple[str, ...] = Field(
        (), description="categories known beforehand; day_of_week and month are made from the date"
    )
    static_real: tuple[str, ...] = Field((), description="numbers that never change")
    static_categorical: tuple[str, ...] = Field((), description="categories that never change")

    @field_validator("static_categorical")
    @classmethod
    def _one_role_each(cls, static_categorical: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        held = [value for value in info.data.values() if value]
        names = [name for value in held for name in ((value,) if isinstance(value, str) else value)]
        twice = sorted(
            {name for name in (*names, *static_categorical) if (*names, *static_categorical).count(name) > 1}
        )
        if "date" in names[1:] or "date" in static_categorical:
            raise ValueError("no role for a column named 'date', unless it holds the dates: rename it")
        if twice:
            raise ValueError(f"each column in one role ({', '.join(twice)} has two)")
        return static_categorical


class SplitDates(Section):
    """Splits by the dates of their first target rows, in place of fractions: one fold."""

    train: datetime.date | None = Field(None, description="first train row, ISO; null: the first there is")
    val: datetime.date = Field(description="first validation row, ISO")
    test: datetime.date = Field(description="first test row, ISO, after val")
    end: datetime.date | None = Field(
        None, description="first row after the test rows, ISO, after test; null: all rows are used"
    )

    @field_validator("end")
    @classmethod
    def _ascending(cls, end: datetime.date | None, info: ValidationInfo) -> datetime.date | None:
        dates = [info.data.get(name) for name in ("train", "val", "test")] + [end]
        known = [date for date in dates if date is not None]
        if any(later <= earlier for earlier, later in itertools.pairwise(known)):
            raise ValueError(
                f"dates in the order train, val, test, end (these are {', '.join(map(str, known))})"
            )
        return end


class DataConfig(Section):
    """Where the panel comes from and how its rows are split."""

    dataset: str = Field(
        "embedded",
        min_length=1,
        description="'embedded', a folder of FRED CSVs, a folder that tftjax.data build made, or a CSV file",
    )
    feature_set: str | None = Field(
        None, min_length=1, description="a name in FEATURE_SETS; null: core_embedded, or what the data brings"
    )
    columns: ColumnsConfig | None = Field(
        None, description="roles of the columns of a CSV of one's own, in place of a feature_set"
    )
    return_unit: Literal["decimal", "percent"] = Field(
        "decimal", description="unit of returns in the source: 0.01 or 1.0 for one percent"
    )
    frequency: Literal["daily", "weekly", "monthly"] = Field(
        "daily", description="of the rows; the target's returns are compounded, other columns the last known"
    )
    alignment: Literal["vintage", "fixed"] = Field(
        "vintage",
        description="when a raw value is seen: from its release date on, or a fixed lag after its date",
    )
    vintage: Literal["first", "latest"] = Field(
        "first",
        description="of a value that was revised: the first one published, or the last known on a day",
    )
    lags: dict[str, Annotated[int, Field(ge=0, le=3660)]] = Field(
        {}, description='by raw series, days after its date under alignment "fixed"; else the table\'s'
    )
    start: datetime.date | None = Field(None, description="first date used, ISO; null: the first there is")
    end: datetime.date | None = Field(
        None, description="last date used, ISO, later than start; null: the last"
    )
    split: tuple[Fraction, Fraction, Fraction] = Field(
        (0.70, 0.15, 0.15), description="fractions of the rows, in time order: train, validation, test"
    )

    @field_validator("columns")
    @classmethod
    def _columns_or_feature_set(
        cls, columns: ColumnsConfig | None, info: ValidationInfo
    ) -> ColumnsConfig | None:
        if columns is not None and info.data.get("feature_set") is not None:
            raise ValueError("null, or data.feature_set left out: both give the columns their roles")
        return columns

    split_dates: SplitDates | None = Field(
        None, description="first dates of the splits, in place of fractions"
    )
    purge: Annotated[int, Field(ge=0, le=10_000)] | None = Field(
        None,
        description="rows left out at the end of train and validation; null: 0 with fractions,"
        " model.prediction_length with dates",
    )
    missing: Literal["refuse", "mask"] = Field(
        "refuse",
        description="of an observed column without a value in a row: an error, or no selection weight there",
    )
    max_gap: int = Field(
        30,
        ge=1,
        le=100_000,
        description="longest gap in business days, between two values of a daily raw series or two rows of a"
        " table of one's own; a longer one is an error. A built panel was checked when it was built",
    )
    scaling: dict[str, Literal["standard", "robust", "none"]] = Field(
        {}, description='by column, how it is scaled; "standard" for all others'
    )
    target_scale: str = Field(
        "none",
        pattern=r"^(none|ewma|column:.+)$",
        description='what the target is divided by, undone on output: "none", "ewma" (its volatility), or'
        ' "column:VIX" (any positive observed column)',
    )

    @field_validator("vintage")
    @classmethod
    def _no_hindsight(cls, vintage: str, info: ValidationInfo) -> str:
        if vintage == "latest" and info.data.get("alignment") == "fixed":
            raise ValueError("'first' with data.alignment 'fixed': a later value would be hindsight")
        return vintage

    @field_validator("lags")
    @classmethod
    def _lags_have_effect(cls, lags: dict[str, int], info: ValidationInfo) -> dict[str, int]:
        if lags and info.data.get("alignment") == "vintage":
            raise ValueError("{}, or set data.alignment to 'fixed' (it is 'vintage')")
        return lags

    @field_validator("end")
    @classmethod
    def _start_before_end(cls, end: datetime.date | None, info: ValidationInfo) -> datetime.date | None:
        start = info.data.get("start")
        if start is not None and end is not None and start >= end:
            raise ValueError(f"a date after data.start ({start})")
        return end

    @field_validator("split")
    @classmethod
    def _sums_to_one(cls, split: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(math.fsum(split) - 1) > 1e-6:
            raise ValueError(f"three positive fractions that sum to 1 (these sum to {math.fsum(split):g})")
        return split


class ModelConfig(Section):
    """Sizes of the network; each change here is another compiled program, but for its floats."""

    hidden_size: int = Field(16, ge=1, le=1024, description="units, a multiple of num_heads; sane: 8 to 128")
    num_heads: int = Field(2, ge=1, le=64, description="attention heads; sane: 1 to 8")
    dropout_rate: float = Field(0.15, ge=0, le=0.95, description="share of units dropped; sane: 0 to 0.5")
    lstm_layers: int = Field(1, ge=1, le=8, description="layers; sane: 1 or 2")
    encoder_length: int = Field(20, ge=1, le=4096, description="rows of the past seen; sane: 10 to 252")
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
    quantile_head: Literal["independent", "monotone"] = Field(
        "independent",
        description="each quantile by itself, as in the paper; or the median and steps away from it: they"
        " never cross",
    )

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


class Config(Section):
    """Everything that defines a run."""

    name: str = Field(
        "run",
        # The first character keeps '..' and names that look like options out.
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$",
        max_length=100,
        description="the run's folder: letters, digits, . _ - (not . or - first); default: the file's stem",
    )
    notes: str = Field("", description="what the run is for")
    data: DataConfig = Field(DataConfig(), description="where the data comes from")
    model: ModelConfig = Field(ModelConfig(), description="sizes of the network")
    loss: LossConfig = Field(LossConfig(), description="the loss")
    train: TrainConfig = Field(TrainConfig(), description="the training")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="how forecasts are judged")


class Hyperparameters(NamedTuple):
    """The floats that may differ between the members of one compiled program."""

    learning_rate: float
    dropout_rate: float
    weight_decay: float
    max_grad_norm: float
    mean_weight: float
    std_weight: float
    target_mean: float
    target_std: float
    marginal_weight: float
    directional_weight: float
    directional_threshold: float
    crossing_weight: float
    staleness_weight: float
    staleness_gradient_scale: float
    staleness_scale: float
    regime_low: float  # the first threshold
    regime_high: float  # the second, infinity without one
    regime_gradient_scale: float
    balance_weight: float


# The floats of nested sections among them, by where a config has them.
NESTED_HYPERPARAMETERS = (
    "model.attention.staleness.weight",
    "model.attention.staleness.gradient_scale",
    "model.attention.staleness.scale",
    "model.attention.regime.thresholds",
    "model.attention.regime.gradient_scale",
    "model.attention.regime.balance_weight",
)


def hyperparameters(config: Config) -> Hyperparameters:
    """Pick the floats of a config that a compiled program takes as inputs."""
    model, loss, train = config.model, config.loss, config.train
    staleness, regime = model.attention.staleness, model.attention.regime
    low, high, *_ = *regime.thresholds, math.inf, math.inf
    return Hyperparameters(
        learning_rate=train.learning_rate,
        dropout_rate=model.dropout_rate,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        mean_weight=loss.mean_weight,
        std_weight=loss.std_weight,
        target_mean=loss.target_mean,
        target_std=loss.target_std,
        marginal_weight=loss.marginal_weight,
        directional_weight=loss.directional_weight,
        directional_threshold=loss.directional_threshold,
        crossing_weight=loss.crossing_weight,
        staleness_weight=staleness.weight,
        staleness_gradient_scale=staleness.gradient_scale,
        staleness_scale=staleness.used_scale,
        regime_low=low,
        regime_high=high,
        regime_gradient_scale=regime.gradient_scale,
        balance_weight=regime.balance_weight,
    )


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config from a JSON file; keys left out keep their defaults, `name` that of the file's stem.

    Args:
        path: the JSON file.
        overrides: "dotted.key=value" each, applied in order.
    Raises:
        UserError: file not readable, not JSON, or any key or value that is not allowed (all listed at once).
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read as a config ({error}). Give the path of a JSON file."
        ) from error
    raw = _parse(text, str(path))
    if not isinstance(raw, dict):
        raise UserError(f"{path}: found {show(raw)} at the top, expected an object: {{...}}.")
    raw = apply_overrides(raw, overrides)
    where = f"{path} with {', '.join(overrides)}" if overrides else str(path)
    return from_dict({"name": path.stem, **raw}, where)


def from_dict(raw: dict[str, Any], where: str) -> Config:
    """Check a dict, as JSON holds it, and make a Config of it.

    Args:
        raw: sections and keys; lists for tuples and ISO strings for dates.
        where: what error messages call the source, such as its file.
    Raises:
        UserError: lists every key or value that is not allowed.
    """
    try:
        return Config.model_validate_json(json.dumps(raw))
    except pydantic.ValidationError as error:
        lines = [
            explain(detail, Config.model_json_schema(), known_keys())
            for detail in error.errors(include_url=False)
        ]
        raise UserError("\n  ".join([f"{where}: {len(lines)} mistake(s) in the config:", *lines])) from None


def apply_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of `raw` with "dotted.key=value" set, the value read as JSON or else as a string.

    Raises:
        UserError: no "=", or a key that does not exist.
    """
    result = json.loads(json.dumps(raw))
    known = known_keys()
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"override {override!r}: expected key=value, such as train.max_epochs=5.")
        if key not in known:
            raise UserError(f"override {override!r}: unknown key {key!r}. {nearest(key, known)}")
        try:
            value = _parse(text, f"override {override!r}")
        except UserError:
            value = text
        *sections, leaf = key.split(".")
        holder = result
        for section in sections:
            holder = holder.setdefault(section, {})
            if not isinstance(holder, dict):
                raise UserError(f"override {override!r}: {section} is {show(holder)}, expected an object.")
        holder[leaf] = value
    return result


def known_keys() -> tuple[str, ...]:
    """All settings as dotted keys, in the order of the models."""
    return tuple(settings(Config()))


def settings(config: Config) -> dict[str, Any]:
    """All settings of a config by dotted key, values as in JSON, in the order of the models."""
    return dict(_flatten(config.model_dump(mode="json"), Config))


def setting_type(key: str) -> Any:
    """The declared type of a setting, by its dotted key."""
    section: Any = Config
    for name in key.split("."):
        section = section.model_fields[name].annotation
    return section


def changed_keys(a: Config, b: Config) -> list[tuple[str, Any, Any]]:
    """The settings in which two configs differ: (dotted key, value in a, value in b), values as in JSON."""
    new = settings(b)
    return [(key, old, new[key]) for key, old in settings(a).items() if old != new[key]]


def fingerprint(config: Config) -> str:
    """SHA-256, in hex, of the config's canonical JSON: equal for equal configs, however they were written."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _flatten(tree: dict[str, Any], section: type[Section]) -> Iterator[tuple[str, Any]]:
    """Dotted keys down to the keys of the innermost sections; what a key holds is one value."""
    for key, value in tree.items():
        annotation = section.model_fields[key].annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield from ((f"{key}.{inner}", held) for inner, held in _flatten(value, annotation))
        else:
            yield key, value


def _parse(text: str, where: str) -> Any:
    """Read JSON without NaN or Infinity, and with no key twice in an object (json would keep the last)."""

    def refuse_constant(constant: str) -> None:
        raise UserError(f"{where}: found {constant}, which is not JSON. Write a finite number.")

    def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise UserError(f"{where}: key {twice[0]!r} stands twice in one object. Keep one of them.")
        return dict(pairs)

    try:
        return json.loads(text, parse_constant=refuse_constant, object_pairs_hook=refuse_duplicates)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{where}: not valid JSON at {place}: {error.msg}.") from None
    except (ValueError, RecursionError) as error:  # thousands of digits, thousands of brackets
        raise UserError(f"{where}: not usable as JSON: {error}.") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Print the JSON schema of a config file."""
    parser = argparse.ArgumentParser(
        prog="python -m tftjax.config", description="The config files' JSON schema."
    )
    parser.add_argument(
        "command", choices=["schema"], help="print the JSON schema, for editors and validators"
    )
    parser.parse_args(argv)
    print(json.dumps(Config.model_json_schema(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
