"""A run's config: frozen, strict models, one a section; read from one JSON file a run."""

import argparse
import hashlib
import itertools
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pydantic
from pydantic import Field, ValidationInfo, field_validator

from tftjax.config_attention import AttentionConfig
from tftjax.config_data import DataConfig
from tftjax.config_errors import UserError, explain, nearest, show
from tftjax.config_section import Fraction, Section
from tftjax.config_training import EvaluationConfig, LossConfig, TrainConfig


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
    raw = parse_json(text, str(path))
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
            value = parse_json(text, f"override {override!r}")
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


def parse_json(text: str, where: str) -> Any:
    """Read JSON without NaN or Infinity, and with no key twice in an object (json would keep the last).

    Args:
        where: what error messages call the text.
    Raises:
        UserError: it is not JSON of this kind.
    """

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
