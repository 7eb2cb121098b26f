"""The base of every section of a config: its rules, its fields, messages on mistakes."""

import difflib
import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import pydantic
from pydantic.fields import FieldInfo

Fraction = Annotated[float, pydantic.Field(gt=0, lt=1)]


class Swept:
    """Marks a field of floats that members of one compiled program may differ in: `Annotated[float, Swept]`.

    Attributes:
      names: names of the field's floats in the record `Hyperparameters`; none: the field's name.
      value: the section's property that holds the floats; None: the field itself.
    """

    def __init__(self, *names: str, value: str | None = None):
        self.names, self.value = names, value


class Section(pydantic.BaseModel):
    """Frozen and strict: no key that is not declared, no value of another type, defaults checked too."""

    # Defaults are validated too: hidden_size=15 must clash with the default num_heads=2.
    model_config = pydantic.ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    def __hash__(self) -> int:
        return hash(self.model_dump_json())  # a dict among the values has no hash


def fields(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Dotted keys and fields down to the innermost sections, in the order of the models."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


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
    key = ".".join(names)
    if detail["type"] == "extra_forbidden":
        hint = nearest(key, (*known, *schema["properties"]))
        return f"{key}: unknown key (value {show(detail['input'])}). {hint}"
    element = "".join(f"[{part}]" for part in detail["loc"] if isinstance(part, int))
    start = f"{key}{element}: found {show(detail['input'])}, expected"
    if detail["type"] == "value_error":
        return f"{start} {detail['ctx']['error']}."
    field = schema
    for name in names:
        if "properties" not in field:  # a name in an object of free keys
            field = {**field["additionalProperties"], "description": field["description"]}
            continue
        field = field["properties"][name]
        options = [field, *field.get("anyOf", [])]
        reference = next((option["$ref"] for option in options if "$ref" in option), None)
        if reference is not None:
            field = {**schema["$defs"][reference.rpartition("/")[2]], "description": field["description"]}
    if detail["type"] == "missing":
        start = f"{key}: missing, expected"
    return f"{start} {_allowed(field)} ({field['description']})."


def _allowed(schema: dict[str, Any]) -> str:
    """The values that a JSON schema allows, in words."""
    if "$ref" in schema:
        return "an object {...}"
    if "anyOf" in schema:
        return " or ".join(_allowed(option) for option in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(map(show, schema["enum"]))
    if schema["type"] == "array":
        items = schema.get("prefixItems", [schema.get("items")])
        count = f"{len(items)} values" if "prefixItems" in schema else "values"
        return f"a list of {count}, each {_allowed(items[0])}"
    words = {"integer": "an integer", "number": "a number", "string": "a string", "null": "null"}
    words |= {"object": "an object {...}", "boolean": "true or false"}
    text = "an ISO date in quotes" if schema.get("format") == "date" else words[schema["type"]]
    bounds = {"minimum": "at least", "exclusiveMinimum": "above"}
    bounds |= {"maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{word} {schema[bound]}" for bound, word in bounds.items() if bound in schema]
    return f"{text} {' and '.join(limits)}" if limits else text


def nearest(key: str, known: Sequence[str]) -> str:
    """A sentence with the known key nearest to one that is unknown.

    >>> nearest("train.hidden_size", ["model.hidden_size", "train.seed"])
    "Did you mean 'model.hidden_size'?"
    """
    leaf = key.rpartition(".")[2]
    # The right word in the wrong section comes first, then the nearest spelling.
    close = [name for name in known if name.rpartition(".")[2] == leaf]
    close = close or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    leaves = {name.rpartition(".")[2]: name for name in known}
    close = close or [leaves[name] for name in difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.5)]
    return f"Did you mean {close[0]!r}?" if close else f"Known keys: {', '.join(dict.fromkeys(known))}."
