"""The base of every section of a config: its rules, its fields, messages on mistakes."""

import difflib
import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, get_args, get_origin

import pydantic
from pydantic.fields import FieldInfo

from tftjax.errors import cut

# Words of other libraries and of everyday speech that are spelt unlike the keys which they mean.
OTHER_WORDS = {
    **dict.fromkeys(("lr", "step_size", "eta", "alpha"), ("train.learning_rate",)),
    **dict.fromkeys(("d_model", "units", "width", "state_size"), ("model.hidden_size",)),
    **dict.fromkeys(
        ("horizon", "h", "steps", "steps_ahead", "output_chunk_length"), ("model.prediction_length",)
    ),
    **dict.fromkeys(
        ("lookback", "look_back", "input_chunk_length", "input_size", "context_length", "window", "history"),
        ("model.encoder_length",),
    ),
    **dict.fromkeys(("attention_head_size", "n_head"), ("model.num_heads",)),
    **dict.fromkeys(("clip", "gradient_clip_val", "clipnorm", "grad_clip"), ("train.max_grad_norm",)),
    **dict.fromkeys(("l2",), ("train.weight_decay",)),
    **dict.fromkeys(("precision", "bf16"), ("model.dtype",)),
    **dict.fromkeys(("early_stopping", "early_stop_patience_steps"), ("train.patience",)),
    **dict.fromkeys(("random_state", "random_seed"), ("train.seed",)),
    **dict.fromkeys(("num_steps", "iterations"), ("train.max_steps",)),
    **dict.fromkeys(("freq",), ("data.frequency",)),
    **dict.fromkeys(("csv", "file", "path"), ("data.dataset",)),
    **dict.fromkeys(("levels", "percentiles"), ("model.quantiles",)),
    **dict.fromkeys(("y", "label"), ("data.columns.target",)),
    **dict.fromkeys(("ds", "time", "time_idx", "timestamp"), ("data.columns.date",)),
    **dict.fromkeys(("unique_id", "group_ids", "ticker", "symbol"), ("data.columns.id",)),
    **dict.fromkeys(("past_covariates", "hist_exog_list"), ("data.columns.observed",)),
    **dict.fromkeys(
        ("future_covariates", "futr_exog_list"),
        ("data.columns.known_real", "data.columns.known_categorical"),
    ),
    **dict.fromkeys(
        ("static_covariates", "stat_exog_list"),
        ("data.columns.static_real", "data.columns.static_categorical"),
    ),
}

ANY_NAME = "NAME"  # in a dotted key, a name that the user chooses

Fraction = Annotated[float, pydantic.Field(gt=0, lt=1)]


class Swept:
    """Marks a field of floats that members of one compiled program may differ in: `Annotated[float, Swept]`.

    Attributes:
      names: names of the field's floats in the record `Hyperparameters`; none: the field's name.
      value: the section's property that holds the floats; None: the field itself.
      switch: whether 0 makes another program, in which nothing of it is computed.
    """

    def __init__(self, *names: str, value: str | None = None, switch: bool = False):
        self.names, self.value, self.switch = names, value, switch


class Section(pydantic.BaseModel):
    """Frozen and strict: no key that is not declared, no value of another type, defaults checked too."""

    # Defaults are validated too: hidden_size=15 must clash with the default num_heads=2.
    model_config = pydantic.ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    def __hash__(self) -> int:
        return hash(self.model_dump_json())  # a dict among the values has no hash


def fields(
    section: type[Section], prefix: str = "", optional: bool = False
) -> Iterator[tuple[str, FieldInfo]]:
    """Dotted keys and fields down to the innermost sections, in the order of the models.

    Args:
      optional: whether a section that may be null, and one of free names, which stand as ANY_NAME, are
        followed by their own fields.
    """
    for name, field in section.model_fields.items():
        if _is_section(field.annotation):
            yield from fields(field.annotation, f"{prefix}{name}.", optional)
            continue
        yield prefix + name, field
        any_name = f"{ANY_NAME}." if get_origin(field.annotation) is dict else ""
        for part in get_args(field.annotation) if optional else ():
            if _is_section(part):
                yield from fields(part, f"{prefix}{name}.{any_name}", optional)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def show(value: Any) -> str:
    """A value as JSON, cut at 80 characters."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def explain(detail: Any, schema: dict[str, Any], known: Sequence[str]) -> str:
    """One line on one of pydantic's errors: dotted key, value found, what is allowed.

    Args:
      detail: an entry of ValidationError.errors().
      schema: the JSON schema of the config.
      known: all dotted keys of the config.
    """
    names = [part for part in detail["loc"] if isinstance(part, str)]
    key = cut(".".join(names))
    if detail["type"] == "extra_forbidden":
        # Names under one that the user chooses are near to such keys only.
        near_keys = [name for name in known if key.startswith(name.rpartition(f"{ANY_NAME}.")[0])]
        hint = nearest_key(key, (*near_keys, *schema["properties"]))
        return f"{key}: unknown key (value {show(detail['input'])}). {hint}"
    element = "".join(f"[{part}]" for part in detail["loc"] if isinstance(part, int))
    start = f"{key}{element}: found {show(detail['input'])}, expected"
    if detail["type"] == "value_error":
        return f"{start} {detail['ctx']['error']}."
    field = schema
    for name in names:
        if "properties" in field:
            field = field["properties"][name]
        else:  # a name in an object of free keys
            field = {**field["additionalProperties"], "description": field["description"]}
        options = [field, *field.get("anyOf", [])]
        reference = next((option["$ref"] for option in options if "$ref" in option), None)
        if reference is not None:
            field = {**schema["$defs"][reference.rpartition("/")[2]], "description": field["description"]}
    if detail["type"] == "missing":
        start = f"{key}: missing, expected"
    return f"{start} {allowed(field)} ({field['description']})."


def allowed(schema: dict[str, Any]) -> str:
    """The values that a JSON schema allows, in words."""
    if "$ref" in schema:
        return "an object {...}"
    if "anyOf" in schema:
        return " or ".join(allowed(option) for option in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(map(show, schema["enum"]))
    if schema["type"] == "array":
        items = schema.get("prefixItems", [schema.get("items")])
        count = f"{len(items)} values" if "prefixItems" in schema else "values"
        return f"a list of {count}, each {allowed(items[0])}"
    words = {"integer": "an integer", "number": "a number", "string": "a string", "null": "null"}
    words |= {"object": "an object {...}", "boolean": "true or false"}
    text = "a date in quotes, YYYY-MM-DD," if schema.get("format") == "date" else words[schema["type"]]
    bounds = {"minimum": "at least", "exclusiveMinimum": "above"}
    bounds |= {"maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{word} {schema[bound]}" for bound, word in bounds.items() if bound in schema]
    return f"{text} {' and '.join(limits)}" if limits else text


def nearest(name: str, known: Sequence[str]) -> str:
    """A sentence with up to three known names near to one that is unknown; without any, a list of all.

    >>> nearest("blance", ["balance", "size"]), nearest("zzz", ["balance", "size"])
    ("Did you mean 'balance'?", 'Known: balance, size.')
    """
    return _question(near(name, known)) or f"Known: {', '.join(dict.fromkeys(known))}."


def nearest_key(key: str, known: Sequence[str]) -> str:
    """A sentence with up to three dotted keys near to one that is unknown; without any, where all are listed.

    >>> nearest_key("train.hidden_size", ["model.hidden_size", "train.seed"])
    "Did you mean 'model.hidden_size'?"
    """
    leaf = key.rpartition(".")[2].lower()
    meant = [name for name in OTHER_WORDS.get(leaf, ()) if name in known]
    return _question(meant or near(key, known)) or "The keys are listed by: tftjax config keys"


def _question(names: Sequence[str]) -> str:
    *others, last = [repr(name) for name in names] or [""]
    return f"Did you mean {', '.join(others)}{' or ' if others else ''}{last}?" if last else ""


def near(key: str, known: Sequence[str]) -> list[str]:
    """Up to three known names, the nearest first; none that is far.

    The last part of a dotted name counts: the right word in the wrong section is nearest, then a likeness in
    spelling, of the whole or of words between underscores.

    >>> near("epochs", ["train.max_epochs", "train.patience"]), near("modle.x", ["model.x", "data.x"])
    (['train.max_epochs'], ['model.x', 'data.x'])
    """
    key = key[:100].lower()  # what is much longer is like none, and takes long to compare
    scores = {name: _likeness(key, name.lower()) for name in dict.fromkeys(known)}
    best = max(scores.values(), default=0.0)
    names = [name for name, score in scores.items() if score >= max(0.68, best - 0.08)]
    return sorted(names, key=scores.__getitem__, reverse=True)[:3]


def _likeness(key: str, name: str) -> float:
    """1 for equal last parts, and towards 0 the less alike they are; a little more for alike sections."""
    (section, _, leaf), (own_section, _, own_leaf) = key.rpartition("."), name.rpartition(".")
    words = [max(_ratio(word, own) for own in own_leaf.split("_")) for word in leaf.split("_")]
    unsaid = max(0, len(own_leaf.split("_")) - len(words))
    by_words = min(words) - 0.05 * (1 + unsaid)
    return max(_ratio(leaf, own_leaf), by_words) + 0.05 * (_ratio(section, own_section) if section else 0)


def _ratio(a: str, b: str) -> float:
    if a != b and sorted(a) == sorted(b):  # the same letters in another order
        return 0.95
    return difflib.SequenceMatcher(None, a, b).ratio()
