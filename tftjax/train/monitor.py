"""Signs of collapse in training: measures of the validation forecasts, and warnings.

metrics.jsonl has the measures of each epoch: `val/sigma`, `val/share_positive`, `val/distinct_forecasts`,
`val/attention_entropy`, `val/selection_entropy`, `output_to_encoder_gradient`; and its `warnings`, in words
by name. A new warning is one function `(record, Watched) -> words or None` and one line of `WARNINGS`.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pydantic
from jaxtyping import Array, Float

from tftjax.config.model import ModelConfig
from tftjax.errors import UserError
from tftjax.files import check
from tftjax.model.attention import MASKS
from tftjax.model.tft import TFTOutput
from tftjax.storage.directories import RunDirectory

RESOLUTION = 1e-6  # returns that differ by less than about 0.01 bp are one forecast
ENCODER_PARTS = ("embeddings", "variable_selection", "lstm")  # of `PARTS`, up to the encoder's output

# Thresholds of the warnings.
FLAT = 0.01  # sigma as a share of target_std
FEW = 0.05  # distinct forecasts as a share of all
ONE_SIGN = 0.99  # share of the commoner sign
ONE_STEP = ONE_VARIABLE = 0.05  # entropy as a share of the largest one
STARVED = 100.0  # gradient of the output layer over that of the encoder

REMEDY = "Take the line out, or bring a copy of the file back."


class Record(pydantic.BaseModel):
    """A line of metrics.jsonl: an epoch's numbers, and its warnings in words by name."""

    model_config = pydantic.ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | bool]
    epoch: int
    warnings: dict[str, str] = {}


class Watched(NamedTuple):
    """Scale of an epoch's numbers: `loss.target_std`, and the number of validation forecasts."""

    target_std: float
    num_forecasts: int


def entropies(output: TFTOutput, config: ModelConfig) -> dict[str, Float[Array, " B"]]:
    """Entropies of each window's weights, as shares of the largest possible: 1 is even, 0 all on one.

    `attention_entropy` is over the steps that the mask lets a prediction step see, averaged over heads and
    prediction steps; `selection_entropy` over the variables of the encoder, averaged over its steps. A single
    step or variable counts as even.
    """
    mask = MASKS[config.attention_mask](config.encoder_length, config.prediction_length)
    return {
        "attention_entropy": _evenness(output.attention, mask.sum(axis=1)[None]),
        "selection_entropy": _evenness(
            output.encoder_selection, np.array([output.encoder_selection.shape[-1]])
        ),
    }


def _evenness(weights: Float[Array, "B *steps N"], places: np.ndarray) -> Float[Array, " B"]:
    """Entropy over the last axis, in units of that of even weights over `places`, averaged over the steps."""
    unit = np.where(places > 1, 1 / np.log(np.maximum(places, 2)), 0.0)
    unit = np.broadcast_to(unit, weights.shape[1:-1]).astype(np.float32)
    entropy = jax.scipy.special.entr(weights) * unit[None, ..., None]
    # One sum over all axes: a sum over the variables alone has thousands of outputs (see VariableSelection).
    single = np.mean(unit == 0.0)
    return entropy.sum(axis=tuple(range(1, weights.ndim))) / unit.size + np.float32(single)


def distinct(x: Float[Any, "..."]) -> Float[Array, ""]:
    """The number of distinct values when rounded to `RESOLUTION`."""
    values = jnp.sort(jnp.round(x.ravel() / RESOLUTION))
    return 1.0 + jnp.sum(values[1:] != values[:-1])


def gradient_ratio(record: Mapping[str, float]) -> float:
    """The norm of the output layer's gradient over that of the encoder, at most 1e12.

    When forecasts collapse, the output layer's biases learn alone: nothing comes through to the encoder.

    Args:
      record: `gradient_norm/<part>` for every part of the model.
    """
    output = record["gradient_norm/output"]
    encoder = math.hypot(*(record[f"gradient_norm/{part}"] for part in ENCODER_PARTS))
    return output / encoder if encoder > 1e-12 * output else (1e12 if output else 0.0)


def flat(record: Mapping[str, float], watched: Watched) -> str | None:
    """The median forecasts hardly differ."""
    sigma = record["val/sigma"]
    if sigma >= FLAT * watched.target_std:
        return None
    return (
        f"the median forecasts' sigma is {sigma * 1e4:.3g} bp, below {FLAT:.0%} of loss.target_std "
        f"({watched.target_std * 1e4:.3g} bp)"
    )


def few(record: Mapping[str, float], watched: Watched) -> str | None:
    """The same few forecasts come again and again."""
    count = int(record["val/distinct_forecasts"])
    if count >= FEW * watched.num_forecasts:
        return None
    return f"{count} distinct median forecasts among {watched.num_forecasts} (to 0.01 bp)"


def one_sign(record: Mapping[str, float], watched: Watched) -> str | None:
    """All median forecasts point one way."""
    share = record["val/share_positive"]
    if 1 - ONE_SIGN < share < ONE_SIGN:
        return None
    return f"{share:.1%} of the median forecasts are positive"


def one_step(record: Mapping[str, float], watched: Watched) -> str | None:
    """Attention sees one step."""
    entropy = record["val/attention_entropy"]
    if entropy >= ONE_STEP:
        return None
    return f"attention rests on one step: its entropy is {entropy:.1%} of an even one's"


def one_variable(record: Mapping[str, float], watched: Watched) -> str | None:
    """One variable takes all."""
    entropy = record["val/selection_entropy"]
    if entropy >= ONE_VARIABLE:
        return None
    return f"one variable takes all selection weight: its entropy is {entropy:.1%} of an even one's"


def starved(record: Mapping[str, float], watched: Watched) -> str | None:
    """The encoder gets no gradient to speak of."""
    ratio = record["output_to_encoder_gradient"]
    if ratio <= STARVED:
        return None
    return f"the output layer's gradient is {ratio:.3g} times the encoder's: only the output layer learns"


WARNINGS: dict[str, Callable[[Mapping[str, float], Watched], str | None]] = {
    "flat": flat,
    "few": few,
    "one_sign": one_sign,
    "one_step": one_step,
    "one_variable": one_variable,
    "starved": starved,
}


def warnings(record: Mapping[str, float], watched: Watched) -> dict[str, str]:
    """The warnings about an epoch's numbers, in words, by name."""
    checks = WARNINGS if watched.num_forecasts else {"starved": starved}  # nothing validates: a final fit
    return {name: words for name, check in checks.items() if (words := check(record, watched))}


def read_history(directory: Path) -> list[dict[str, Any]]:
    """Reads the epochs' lines of metrics.jsonl; none where the file is missing.

    Raises:
      UserError: it cannot be read, or a line is damaged; names it.
    """
    path, records = RunDirectory(directory).metrics, []
    if not path.is_file():
        return records
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). {REMEDY}") from error
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines) and not line.endswith(b"\n"):  # half a line that a kill left
                break
            raise UserError(f"{where}: damaged ({error}). {REMEDY}") from error
        check(content, Record, where, REMEDY)
        records.append(content)
    return records


def warnings_of(records: list[dict[str, Any]]) -> dict[str, list[tuple[int, str]]]:
    """The epochs and words of each warning, by its name."""
    by_name: dict[str, list[tuple[int, str]]] = {}
    for record in records:
        for name, words in record.get("warnings", {}).items():
            by_name.setdefault(name, []).append((record["epoch"], words))
    return by_name
