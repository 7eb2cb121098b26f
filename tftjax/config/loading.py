"""Reading, checking, overriding and comparing configs."""

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pydantic
from pydantic import Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from tftjax.config.data import DataConfig
from tftjax.config.evaluation import EvaluationConfig
from tftjax.config.functions import FunctionsConfig
from tftjax.config.loss import LossConfig
from tftjax.config.model import ModelConfig
from tftjax.config.section import ANY_NAME, Section, explain, fields, nearest_key, show
from tftjax.config.train import TrainConfig
from tftjax.errors import UserError
from tftjax.files import near

# What a config that is begun now has where a default is the paper's: by `tftjax init`, and by `fit` without a
# config. A file or dict that names no head keeps its meaning.
BEGIN_WITH = {"model": {"quantile_head": "monotone"}}


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
    functions: FunctionsConfig = Field(
        FunctionsConfig(), description="functions that were handed to tftjax.fit; leave it out of a file"
    )

    @field_validator("loss")
    @classmethod
    def _corrections_have_a_head(cls, loss: LossConfig, info: ValidationInfo) -> LossConfig:
        model = info.data.get("model")
        if loss.objective == "likelihood" and model is not None and not model.corrects:
            raise ValueError(
                "objective 'pinball', or set model.quantile_head to 'correction' or 'student_t' (it is"
                f" {model.quantile_head!r})"
            )
        if loss.correction_weight and model is not None and not model.corrects:
            raise ValueError(
                "correction_weight 0, or set model.quantile_head to 'correction' or 'student_t' (it is"
                f" {model.quantile_head!r})"
            )
        return loss

    @field_validator("loss")
    @classmethod
    def _horizons_are_forecast(cls, loss: LossConfig, info: ValidationInfo) -> LossConfig:
        model, weights = info.data.get("model"), loss.horizon_weights
        if model is None or not weights:
            return loss
        steps = model.prediction_length
        unknown = [key for key in weights if key not in map(str, range(1, steps + 1))]
        if unknown:
            raise ValueError(
                f"in horizon_weights steps from 1 to model.prediction_length ({steps}; found {unknown[0]!r})"
            )
        if not any(loss.weights_of(steps)):
            raise ValueError("a step in horizon_weights with a weight above 0: the loss would be 0")
        return loss

    @field_validator("train")
    @classmethod
    def _unseen_series_are_trained_for(cls, train: TrainConfig, info: ValidationInfo) -> TrainConfig:
        data = info.data.get("data")
        if data is not None and data.unseen and not train.static_dropout:
            raise ValueError(
                "static_dropout above 0 with data.unseen: the embedding of an unseen series is not trained"
                " without"
            )
        return train

    @field_validator("train")
    @classmethod
    def _short_windows_are_allowed(cls, train: TrainConfig, info: ValidationInfo) -> TrainConfig:
        model = info.data.get("model")
        if train.short_windows and model is not None and model.fewest_rows == model.encoder_length:
            raise ValueError(
                "short_windows 0, or set model.min_encoder_length below model.encoder_length"
                f" ({model.encoder_length}): windows are cut to no fewer rows"
            )
        return train

    @field_validator("train")
    @classmethod
    def _known_numbers_may_miss(cls, train: TrainConfig, info: ValidationInfo) -> TrainConfig:
        data = info.data.get("data")
        if train.known_dropout and data is not None and data.missing_known != "mask":
            raise ValueError("known_dropout 0, or set data.missing_known to 'mask' (it is 'refuse')")
        return train

    @field_validator("train")
    @classmethod
    def _train_rows_choose_nothing(cls, train: TrainConfig, info: ValidationInfo) -> TrainConfig:
        data = info.data.get("data")
        if data is not None and data.train_on_val and (train.keep != "last" or data.val_blocks > 1):
            raise ValueError(
                f"keep 'last' (now {train.keep!r}) and data.val_blocks 1 (now {data.val_blocks}) with"
                " data.train_on_val: rows that are trained on cannot choose the epoch"
            )
        return train

    @field_validator("functions")
    @classmethod
    def _one_head(cls, functions: FunctionsConfig, info: ValidationInfo) -> FunctionsConfig:
        model = info.data.get("model")
        if functions.head and model is not None and model.corrects:
            raise ValueError(
                f"no head, or model.quantile_head 'independent' (it is {model.quantile_head!r}): a head that"
                " is handed in takes its place"
            )
        return functions


def load(given: "str | Path | Config", overrides: Sequence[str] = ()) -> Config:
    """Reads a config from a JSON file; keys left out keep their defaults, `name` that of the file's stem.

    Args:
      given: the JSON file, or a config to override.
      overrides: "dotted.key=value" each, applied in order.

    Raises:
      UserError: file not readable, not JSON, or any key or value that is not allowed (all listed at once).
    """
    if isinstance(given, Config):
        return from_dict(apply_overrides(given.model_dump(mode="json"), overrides), given.name)
    path = Path(given)
    raw = read_users_json(path, "a config")
    if not isinstance(raw, dict):
        raise UserError(f"{path}: found {show(raw)} at the top, expected an object: {{...}}.")
    raw = apply_overrides(raw, overrides)
    where = f"{path} with {', '.join(overrides)}" if overrides else str(path)
    return from_dict({"name": path.stem, **raw}, where)


def from_dict(raw: dict[str, Any], where: str) -> Config:
    """Checks a dict, as JSON holds it, and makes a Config of it.

    Args:
      raw: sections and keys; lists for tuples and ISO strings for dates.
      where: what error messages call the source, such as its file.

    Raises:
      UserError: lists every key or value that is not allowed.
    """
    unreadable = list(_unreadable(raw))
    if unreadable:
        raise UserError(
            f"{where}: found NUL or half a character in the text of {', '.join(unreadable)}, expected"
            " readable text. Write it anew."
        )
    try:
        return Config.model_validate_json(json.dumps(raw))
    except pydantic.ValidationError as error:
        lines = [
            explain(detail, Config.model_json_schema(), tuple(described()))
            for detail in error.errors(include_url=False)
        ]
        raise UserError("\n  ".join([f"{where}: {len(lines)} mistake(s) in the config:", *lines])) from None


def _unreadable(value: Any, key: str = "") -> Iterator[str]:
    """The dotted keys under which a text is that no path, no file and no terminal can hold."""
    if isinstance(value, str) and re.search("[\0\ud800-\udfff]", value):
        yield ascii(key).strip("'")
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _unreadable(part, f"{key}.{name}" if key else str(name))
            yield from _unreadable(name, "a key")
    elif isinstance(value, list):
        for part in value:
            yield from _unreadable(part, key)


def apply_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Returns a copy of `raw` with "dotted.key=value" set, the value read as JSON or else as a string.

    A section that is null becomes an object by a key in it.

    Raises:
      UserError: no "=", or a key that does not exist.
    """
    result = json.loads(json.dumps(raw))
    known = all_keys()
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"override {override!r}: expected key=value, such as train.max_epochs=5.")
        if key not in known:
            raise UserError(f"override {override!r}: unknown key {key!r}. {nearest_key(key, known)}")
        try:
            value = parse_json(text, f"override {override!r}")
        except UserError:
            value = text
        set_value(result, key, value, f"override {override!r}")
    return result


def set_value(raw: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Sets a dotted key of a config's dict; an absent section on the way, or null, becomes an object.

    Args:
      where: what error messages call the setting.

    Raises:
      UserError: a section that is no object.
    """
    *sections, leaf = key.split(".")
    for section in sections:
        if raw.get(section) is None:
            raw[section] = {}
        raw = raw[section]
        if not isinstance(raw, dict):
            raise UserError(f"{where}: {section} is {show(raw)}, expected an object.")
    raw[leaf] = value


def known_keys() -> tuple[str, ...]:
    """All settings as dotted keys, in the order of the models."""
    return tuple(key for key, _ in fields(Config))


def described() -> dict[str, FieldInfo]:
    """The fields that a config file may hold by dotted key, also those under a name that the user chooses."""
    return {key: field for key, field in fields(Config, optional=True) if not key.startswith("functions.")}


@functools.cache
def all_keys() -> tuple[str, ...]:
    """The dotted keys that a user may set: `known_keys`, and those in sections that may be null."""
    return tuple(key for key in described() if f".{ANY_NAME}." not in key)


def settings(config: Config) -> dict[str, Any]:
    """All settings of a config by dotted key, values as in JSON, in the order of the models."""
    tree = config.model_dump(mode="json")
    return {key: functools.reduce(dict.__getitem__, key.split("."), tree) for key in known_keys()}


def setting_type(key: str) -> Any:
    """The declared type of a setting, by its dotted key."""
    return dict(fields(Config))[key].annotation


def changed_keys(a: Config, b: Config) -> list[tuple[str, Any, Any]]:
    """The settings in which two configs differ: (dotted key, value in a, value in b), values as in JSON.

    >>> changed_keys(Config(name="a"), Config(name="b"))
    [('name', 'a', 'b')]
    """
    new = settings(b)
    return [(key, old, new[key]) for key, old in settings(a).items() if old != new[key]]


def fingerprint(config: Config) -> str:
    """SHA-256, in hex, of the config's canonical JSON: equal for equal configs, however they were written."""
    return digest(config.model_dump(mode="json"))


def digest(content: dict[str, Any]) -> str:
    """SHA-256, in hex, of canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_users_json(path: Path, kind: str) -> Any:
    """Reads a JSON file that a user wrote; see `parse_json`.

    Args:
      kind: what the file should be, for the message, such as "a config".

    Raises:
      UserError: the file cannot be read, or is not JSON.
    """
    if path.suffix.lower() in (".csv", ".parquet"):
        raise UserError(f"{path}: a table, expected {kind}. Make one of it first: tftjax init {path}")
    if not os.path.lexists(path):
        raise UserError(f"{path}: no such file{near(path)}. Give the path of {kind}, a JSON file.")
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows writes a byte-order mark
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read as {kind} ({error}). Give the path of a JSON file."
        ) from error
    return parse_json(text, str(path))


def parse_json(text: str, where: str) -> Any:
    """Reads JSON without NaN or Infinity, and with no key twice in an object (json would keep the last).

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
        raise UserError(
            f"{where}: not valid JSON at {place}: {error.msg}.{_not_in_json(text, error.pos)}"
        ) from None
    except (ValueError, RecursionError) as error:  # thousands of digits, thousands of brackets
        raise UserError(f"{where}: not usable as JSON: {error}.") from None


def _not_in_json(text: str, position: int) -> str:
    """A sentence on what a text has of other languages where its JSON ends; empty if it has nothing."""
    before, after = text[:position].rstrip(), text[position:].lstrip()
    if re.match(r"\s*(#.*\n\s*)*(---|- |[\w.-]+\s*[:=]|\[[A-Za-z_][\w.]*\]\s*\n)", text):
        return ' It looks like YAML or TOML: write it as JSON, {"train": {"seed": 1}}.'
    if after.startswith(("//", "/*", "#")):
        return " JSON has no comments: take them out; the key notes takes words."
    if re.match(r",\s*[}\]]", after) or (before.endswith(",") and after[:1] in ("}", "]")):
        return " JSON has no comma before a closing bracket: take it out."
    if after.startswith("'"):
        return " JSON has double quotes: write \"...\" in place of '...'."
    if re.match(r"(True|False|None)\b", after):
        return " JSON has true, false and null in place of Python's words."
    return ""
