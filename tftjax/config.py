"""Frozen, strict configuration models: one JSON file a run, one model a section."""

import argparse
import datetime
import difflib
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


class UserError(Exception):
    """A mistake the user can mend: says what was found, where, what was expected and what to do."""


class _Section(pydantic.BaseModel):
    # Defaults are validated too: hidden_size=15 must clash with the default num_heads=2.
    model_config = pydantic.ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )


Fraction = Annotated[float, Field(gt=0, lt=1)]


class DataConfig(_Section):
    """Where the panel comes from and how its rows are split."""

    dataset: str = Field(
        "embedded", min_length=1, description="'embedded', a folder of FRED CSVs, or the path of a panel CSV"
    )
    feature_set: str = Field("core_embedded", min_length=1, description="a name in FEATURE_SETS")
    return_unit: Literal["decimal", "percent"] = Field(
        "decimal", description="unit of returns in the source: 0.01 or 1.0 for one percent"
    )
    start: datetime.date | None = Field(None, description="first date used, ISO; null: the first there is")
    end: datetime.date | None = Field(
        None, description="last date used, ISO, later than start; null: the last"
    )
    split: tuple[Fraction, Fraction, Fraction] = Field(
        (0.70, 0.15, 0.15), description="fractions of the rows, in time order: train, validation, test"
    )

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


class ModelConfig(_Section):
    """Sizes of the network; each change here is another compiled program, but for dropout_rate."""

    hidden_size: int = Field(16, ge=1, le=1024, description="units, a multiple of num_heads; sane: 8 to 128")
    num_heads: int = Field(2, ge=1, le=64, description="attention heads; sane: 1 to 8")
    dropout_rate: float = Field(0.15, ge=0, le=0.95, description="share of units dropped; sane: 0 to 0.5")
    lstm_layers: int = Field(1, ge=1, le=8, description="layers; sane: 1 or 2")
    encoder_length: int = Field(20, ge=1, le=4096, description="rows of the past seen; sane: 10 to 252")
    prediction_length: int = Field(1, ge=1, le=512, description="rows forecast; sane: 1 to 20")
    attention_mask: Literal["causal", "strict", "none"] = Field(
        "causal", description="steps that a prediction step sees: up to itself, before itself, all"
    )
    quantiles: tuple[Fraction, ...] = Field(
        (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98), description="levels forecast, ascending, 0.5 among them"
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


class LossConfig(_Section):
    """L = QL + mean_weight * (mu - target_mean)^2 + std_weight * (sigma - target_std)^2."""

    mean_weight: float = Field(0.0, ge=0, le=1e6, description="weight of the mean penalty; sane: 0 to 1")
    std_weight: float = Field(0.0, ge=0, le=1e6, description="weight of the spread penalty; sane: 0 to 1")
    target_mean: float = Field(
        0.0003, ge=-1, le=1, description="return as a decimal (0.01 is one percent); sane: -0.001 to 0.001"
    )
    target_std: float = Field(
        0.01, gt=0, le=1, description="return as a decimal (0.01 is one percent); sane: 0.001 to 0.05"
    )
    scale: Literal["return", "standardized"] = Field(
        "return", description="'standardized' divides every quantity by target_std: weights are pure numbers"
    )


class TrainConfig(_Section):
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


class Config(_Section):
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


def hyperparameters(config: Config) -> Hyperparameters:
    """Pick the floats of a config that a compiled program takes as inputs."""
    model, loss, train = config.model, config.loss, config.train
    return Hyperparameters(
        learning_rate=train.learning_rate,
        dropout_rate=model.dropout_rate,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        mean_weight=loss.mean_weight,
        std_weight=loss.std_weight,
        target_mean=loss.target_mean,
        target_std=loss.target_std,
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
        raise UserError(f"{path}: found {_show(raw)} at the top, expected an object: {{...}}.")
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
        lines = [_explain(detail) for detail in error.errors(include_url=False)]
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
            raise UserError(f"override {override!r}: unknown key {key!r}. {_nearest(key, known)}")
        try:
            value = _parse(text, f"override {override!r}")
        except UserError:
            value = text
        *section, leaf = key.split(".")
        holder = result.setdefault(section[0], {}) if section else result
        if not isinstance(holder, dict):
            raise UserError(f"override {override!r}: {section[0]} is {_show(holder)}, expected an object.")
        holder[leaf] = value
    return result


def known_keys() -> tuple[str, ...]:
    """All settings as dotted keys, in the order of the models."""
    return tuple(key for key, _ in _flatten(Config().model_dump(mode="json")))


def changed_keys(a: Config, b: Config) -> list[tuple[str, Any, Any]]:
    """The settings in which two configs differ: (dotted key, value in a, value in b), values as in JSON."""
    pairs = zip(_flatten(a.model_dump(mode="json")), _flatten(b.model_dump(mode="json")), strict=True)
    return [(key, old, new) for (key, old), (_, new) in pairs if old != new]


def fingerprint(config: Config) -> str:
    """SHA-256, in hex, of the config's canonical JSON: equal for equal configs, however they were written."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


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


def _show(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _explain(detail: Any) -> str:
    """One line on one of pydantic's errors: dotted key, value found, what is allowed."""
    names = [part for part in detail["loc"] if isinstance(part, str)]
    key = ".".join(names)
    if detail["type"] == "extra_forbidden":
        hint = _nearest(key, (*known_keys(), *Config.model_fields))
        return f"{key}: unknown key (value {_show(detail['input'])}). {hint}"
    element = "".join(f"[{part}]" for part in detail["loc"] if isinstance(part, int))
    found = f"{key}{element}: found {_show(detail['input'])}, expected"
    if detail["type"] == "value_error":
        return f"{found} {detail['ctx']['error']}."
    schema = Config.model_json_schema()
    field = schema
    for name in names:
        field = field["properties"][name]
        if "$ref" in field:
            field = {**schema["$defs"][field["$ref"].rpartition("/")[2]], "description": field["description"]}
    return f"{found} {_allowed(field)} ({field['description']})."


def _allowed(schema: dict[str, Any]) -> str:
    """What a JSON schema allows, in words."""
    if "anyOf" in schema:
        return " or ".join(_allowed(option) for option in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(map(_show, schema["enum"]))
    if schema["type"] == "array":
        items = schema.get("prefixItems", [schema.get("items")])
        count = f"{len(items)} values" if "prefixItems" in schema else "values"
        return f"a list of {count}, each {_allowed(items[0])}"
    words = {"integer": "an integer", "number": "a number", "string": "a string", "null": "null"}
    words |= {"object": "an object {...}"}
    text = "an ISO date in quotes" if schema.get("format") == "date" else words[schema["type"]]
    bounds = {"minimum": "at least", "exclusiveMinimum": "above"}
    bounds |= {"maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{word} {schema[bound]}" for bound, word in bounds.items() if bound in schema]
    return f"{text} {' and '.join(limits)}" if limits else text


def _nearest(key: str, known: Sequence[str]) -> str:
    leaf = key.rpartition(".")[2]
    # The right word in the wrong section comes first, then the nearest spelling.
    close = [name for name in known if name.rpartition(".")[2] == leaf]
    close = close or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    leaves = {name.rpartition(".")[2]: name for name in known}
    close = close or [leaves[name] for name in difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.5)]
    return f"Did you mean {close[0]!r}?" if close else f"Known keys: {', '.join(dict.fromkeys(known))}."


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
