"""The config of a sweep to use, in one sentence, by validation alone: test rows choose nothing."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from tftjax.errors import UserError
from tftjax.evaluate.files import Predictions, check_comparable, daily_losses
from tftjax.evaluate.formatting import LOSS, Metrics, counted
from tftjax.evaluate.significance import Interval, diebold_mariano, mean_interval
from tftjax.evaluate.tables import mark_of
from tftjax.evaluate.verdict import hardest


def judged_by(
    results: pd.DataFrame, trained: Collection[str], averaged: Collection[str]
) -> dict[str, str | None]:
    """The forecast that a config is judged by: its ensemble, or else its first trained seed.

    Args:
      results: a row a member.
      trained: names of the members that did not diverge.
      averaged: configs that have an ensemble.
    Returns:
      By config, the best by mean validation pinball loss first, name of a member; None is the ensemble.
    """
    rows = results[results["member"].isin(list(trained))]
    means = rows.groupby("config", sort=False)["val/pinball"].mean().dropna().sort_values()
    first = rows.drop_duplicates("config").set_index("config")["member"]
    return {name: None if name in averaged else first[name] for name in means.index}


def judged_metrics(
    results: pd.DataFrame, members: Mapping[str, Any], averaged: Mapping[str, Any]
) -> dict[str, Metrics]:
    """The validation metrics that a config is judged by; see `judged_by`.

    Args:
      results: a row a member.
      members: contents of metrics.json by name of a member; a diverged member has none.
      averaged: those of the ensembles, by config.
    Returns:
      By config, the best by mean validation pinball loss first.
    """
    judges = judged_by(results, members, averaged)
    return {
        config: (averaged[config] if name is None else members[name])["val"]
        for config, name in judges.items()
    }


def choice(
    results: pd.DataFrame, judged: Mapping[str, Metrics], predictions: Callable[[str], Predictions]
) -> str:
    """The config to use, whether it is told apart from the next, and from the best baseline.

    Args:
      results: a row a member.
      judged: what `judged_metrics` returns.
      predictions: forecasts of the validation rows of a member, by its name.
    Raises:
      UserError: a member's forecasts cannot be read.
    """
    best, *others = judged
    baseline = hardest(judged[best]["baselines"])
    beaten = [
        baseline is not None and mark_of(judged[name]["tests"]["diebold_mariano"][baseline]) == "good"
        for name in (best, *others[:1])
    ]
    if not others:
        verb = "beats" if beaten[0] else "does not beat"
        return f"One config, {best}{f': it {verb} {baseline} on validation' if baseline else ''}."
    (other, *_), (lead, over) = others, _lead(results, best, others[0], predictions)
    text = f"Use {best}, the best on validation"
    if lead is None:
        text += f", though it cannot be compared with {other} ({over})"
    else:
        apart = lead.low is not None and lead.high is not None and lead.low * lead.high > 0
        text += f": it is told apart from {other}" if apart else f", though it is not told apart from {other}"
        size = f"{LOSS.number(lead.mean)}e-3 {LOSS.interval(lead.low, lead.high)}".rstrip()
        text += f" (pinball loss lower by {size}, {over})"
    who = {(True, True): "both beat", (False, False): "neither beats"}.get(
        (beaten[0], beaten[1]), f"only {best if beaten[0] else other} beats"
    )
    return f"{text}; {who} {baseline} on validation." if baseline else f"{text}."


def _lead(
    results: pd.DataFrame, best: str, other: str, predictions: Callable[[str], Predictions]
) -> tuple[Interval | None, str]:
    """The other's pinball loss minus the best's with a 95 % interval, and what it is over.

    Over the seeds that both have, seed by seed; of one seed over days, by Diebold and Mariano's test.
    """
    a, b = (results[results["config"] == name].set_index("seed") for name in (best, other))
    pairs = (b["val/pinball"] - a["val/pinball"]).dropna()
    if len(pairs) > 1:
        return mean_interval(pairs.to_numpy(np.float64)), counted(len(pairs), "seed")
    if not len(pairs):
        return None, "no seed in common"
    names = [table.loc[pairs.index[0], "member"] for table in (a, b)]
    one, two = (predictions(name) for name in names)
    if one.quantiles != two.quantiles:
        return None, "other quantiles"
    try:
        check_comparable(one, two, (names[0], names[1]))
    except UserError:
        return None, "other rows"
    losses = [daily_losses(one, "pinball", names[0]), daily_losses(two, "pinball", names[1])]
    tested = diebold_mariano(losses[1] - losses[0], one.target.shape[1])
    days = one.dates.nunique()
    return Interval(tested.difference, tested.low, tested.high), f"{counted(days, 'date')} of one seed"
