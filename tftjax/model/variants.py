"""What the variants of attention have learned, as numbers that a person reads."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import Config
from tftjax.model.regime import GATES
from tftjax.model.staleness import learned_weight


def learned(
    config: Config, observed: Sequence[str], usual_ages: Mapping[str, float], parameters: Mapping
) -> list[dict]:
    """A row a learned number of the variants that a config has; empty without any.

    Args:
      observed: names of the observed columns, in the model's order.
      usual_ages: of the low-frequency ones, days.
      parameters: the model's, by name.
    Returns:
      Rows of `what` ("staleness weight" or "gate"), `of` (a head, a variable, a head in a regime), and
      `value`, with `start`, what it was before training.
    """
    attention, rates = config.model.attention, hyperparameters(config)
    rows = []
    modules = {"attention": "attention_staleness", "variable_selection": "encoder_selection_staleness"}
    if attention.staleness.mode != "none":
        raw = jnp.asarray(parameters[modules[attention.staleness.mode]]["raw_weight"])
        heads = [f"head {h + 1}" for h in range(len(raw))] if attention.staleness.per_head else ["all heads"]
        names = observed if attention.staleness.mode == "variable_selection" else heads
        for name, value in zip(names, np.asarray(learned_weight(raw, rates)).tolist(), strict=True):
            if attention.staleness.mode == "attention" or name in usual_ages:
                rows.append(_row("staleness weight", name, value, rates.staleness_weight))
    if attention.regime.by != "none":
        gates = rates.regime_gradient_scale * jnp.asarray(parameters["attention_gates"]["gate"])
        for head, by_regime in enumerate(np.asarray(GATES[attention.regime.renormalise](gates.T))):
            for regime, value in enumerate(by_regime.tolist()):
                rows.append(_row("gate", f"head {head + 1}, regime {regime + 1}", value, 1.0))
    return rows


def _row(what: str, of: str, value: float, start: float) -> dict:
    return {"what": what, "of": of, "value": value, "start": start}
