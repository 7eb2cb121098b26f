"""Results of a search: its trials, what mattered, the best config, and what chance alone would have given."""

import io
import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from tftjax import files
from tftjax.config.loading import Config
from tftjax.errors import UserError, both
from tftjax.evaluate.formatting import LOSS, counted, share
from tftjax.evaluate.tables import Cell, Summary, Table
from tftjax.storage.directories import SearchDirectory
from tftjax.sweep.tune.space import Space, best_config, given_point
from tftjax.sweep.tune.study import Study, importance

AGAIN = f"Go on with the search, which writes it anew ({both('--resume')})."
SHOWN = 10  # trials in the summary
STATES = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "in training",
    "WAITING": "in training",
}
COLUMNS = ("trial", "state", "pinball", "seed_sd", "epochs", "message")  # and one a key of the space


def write_results(
    directory: SearchDirectory, config: Config, space: Space, seeds: int, study: Study, name: str
) -> str:
    """Writes the trials, the importance of the settings, the best config and the summary.

    Args:
      config: the config as it was given.
      seeds: seeds of each trial.
      name: the search's name; the best config is called after it.
    Returns:
      The summary for a terminal.
    Raises:
      UserError: no trial is complete.
    """
    table = trials_table(study, list(space))
    _write_csv(directory.table, table)
    complete = table[table["state"] == "complete"].sort_values("pinball", kind="stable")
    if complete.empty:
        failed = table.loc[table["state"] == "failed", "message"]
        reason = f" The first that failed: {failed.iloc[0]}" if len(failed) else ""
        raise UserError(
            f"{directory.path}: no trial is complete, of {len(table)}.{reason} Change the space, or go on"
            " with more trials."
        )
    weights = importance(study)
    shares = pd.DataFrame({"setting": list(weights), "importance": list(weights.values())})
    _write_csv(directory.importance, shares)
    best = complete.iloc[0]
    values = study.study.trials[int(best["trial"])].user_attrs["values"]
    content = best_config(config, values, f"{name}-best").model_dump(mode="json")
    files.write_json(directory.best, content)
    given = None if given_point(space, config) is None else 0
    summary = summarise(table, complete, shares, list(space), seeds, str(directory.best), given)
    files.replace_text(directory.summary, summary.markdown())
    return summary.terminal()


def _write_csv(path: Any, table: pd.DataFrame) -> None:
    text = io.StringIO()
    table.to_csv(text, index=False)
    files.replace_text(path, text.getvalue())


def trials_table(study: Study, keys: Sequence[str]) -> pd.DataFrame:
    """A row a trial: its state, mean and spread over seeds of the pinball loss, epochs, and its values."""
    rows = []
    for trial in study.study.get_trials(deepcopy=False):
        attrs = trial.user_attrs
        losses = attrs.get("losses", [])
        row = {
            "trial": trial.number,
            "state": STATES[trial.state.name],
            "pinball": statistics.fmean(losses) if losses else math.nan,
            "seed_sd": statistics.stdev(losses) if len(losses) > 1 else math.nan,
            "epochs": max(trial.intermediate_values, default=0),
            "message": attrs.get("message", ""),
        }
        rows.append(row | {key: attrs.get("values", {}).get(key) for key in keys})
    return pd.DataFrame(rows, columns=[*COLUMNS, *keys])


def read_trials(directory: SearchDirectory) -> pd.DataFrame:
    """Reads the trials of a search: state, mean and spread over seeds of the pinball loss, epochs, values.

    Raises:
      UserError: the file is missing or damaged.
    """
    numbers = ("trial", "pinball", "seed_sd", "epochs")
    return files.read_csv(directory.table, AGAIN, texts=("state",), numbers=numbers).set_index("trial")


def read_importance(directory: SearchDirectory) -> pd.Series:
    """Reads the importance of each setting.

    Raises:
      UserError: the file is missing or damaged.
    """
    table = files.read_csv(directory.importance, AGAIN, texts=("setting",), numbers=("importance",))
    return table.set_index("setting")["importance"]


def expected_lead(count: int) -> float:
    """How far the best of many normal draws is from their mean, on average, in standard deviations.

    The expected maximum of n draws: the integral of x n phi(x) Phi(x)^(n - 1).

    >>> round(expected_lead(1), 4), round(expected_lead(2), 4), round(expected_lead(100), 2)
    (0.0, 0.5642, 2.51)
    """
    from scipy import integrate, stats

    density = stats.norm
    return integrate.quad(lambda x: x * count * density.pdf(x) * density.cdf(x) ** (count - 1), -10, 10)[0]


def seed_spread(spreads: Float[ndarray, " C"]) -> float:
    """The standard deviation over seeds of one config: of the better half, as poor configs spread more.

    Args:
      spreads: those of complete trials, the best first.
    """
    half = spreads[: max(1, math.ceil(len(spreads) / 2))]
    return float(np.sqrt(np.mean(half**2)))


def chance_note(table: pd.DataFrame, complete: pd.DataFrame, seeds: int, given: int | None) -> str:
    """What the best of so many trials would be by chance alone, and how much of its lead that explains.

    Args:
      table, complete: see `trials_table`; the complete ones, the best first.
      given: the trial of the config as it was given; None if there is none.
    """
    if seeds == 1:
        return (
            "With one seed a trial nothing says how much of the best's lead is the luck of its seed. Search"
            f" with more seeds ({both('--seeds')}), or train the best config from several seeds before you"
            " believe it."
        )
    compared = int(table["state"].isin(["complete", "pruned"]).sum())
    spread = seed_spread(complete["seed_sd"].to_numpy())
    lead = expected_lead(compared) * spread / math.sqrt(seeds)
    best = complete["pinball"].iloc[0]
    within = int((complete["pinball"] <= best + lead).sum())
    text = (
        f"{counted(compared, 'trial')} were compared. Seeds of one config spread by"
        f" {LOSS.number(spread)} (standard deviation), means of {seeds} by"
        f" {LOSS.number(spread / math.sqrt(seeds))}. If all these configs were equally good, the best of"
        f" {compared} would still come out {LOSS.number(lead)} below their mean, by chance alone."
        f" {counted(within, 'complete trial')} {'lies' if within == 1 else 'lie'} within that of the best,"
        f" itself counted{': the search does not tell them apart' if within > 1 else ''}."
    )
    if given is not None and given in set(complete["trial"]) and complete["trial"].iloc[0] != given:
        gain = complete.set_index("trial").loc[given, "pinball"] - best
        verdict = "no more than chance gives" if gain <= lead else "more than chance gives"
        text += f" The config as given is trial {given}; the best is {LOSS.number(gain)} below it: {verdict}."
    return text


def summarise(
    table: pd.DataFrame,
    complete: pd.DataFrame,
    shares: pd.DataFrame,
    keys: Sequence[str],
    seeds: int,
    best: str,
    given: int | None,
) -> Summary:
    """The results for reading; losses in 1e-3.

    Args:
      table, complete: see `trials_table`; the complete ones, the best first.
      shares: the importance of each setting.
      keys: the settings of the space.
      best: path of the best config.
      given: see `chance_note`.
    """
    states = table["state"].value_counts()
    counts = ", ".join(
        f"{states[state]} {state}" for state in dict.fromkeys(STATES.values()) if state in states
    )
    leaves = [key.rpartition(".")[2] for key in keys]
    names = [leaf if leaves.count(leaf) == 1 else key for key, leaf in zip(keys, leaves, strict=True)]
    rows = [
        [
            Cell(str(row["trial"])),
            Cell(LOSS.number(row["pinball"]), "best" if place == 0 else ""),
            Cell(LOSS.number(row["seed_sd"])),
            Cell(str(row["epochs"])),
            *(Cell(f"{row[key]:g}" if isinstance(row[key], float) else str(row[key])) for key in keys),
        ]
        for place, (_, row) in enumerate(complete.head(SHOWN).iterrows())
    ]
    parts: list[str | Table] = [
        f"{counted(len(table), 'trial')}: {counts}. A trial is judged by the pinball loss of the validation"
        f" rows, in 1e-3, the mean over {counted(seeds, 'seed')}; test rows are not looked at.",
        Table("The best trials", ("trial", "pinball", "sd of seeds", "epochs", *names), rows),
        chance_note(table, complete, seeds, given),
    ]
    if len(shares):
        cells = [[Cell(row.setting), Cell(share(row.importance, 0))] for row in shares.itertuples()]
        note = "For being among the best of the trials compared; by PED-ANOVA, adds up to 100 %."
        parts.append(Table("Importance of the settings", ("setting", "importance"), cells, note))
    parts.append(
        f"The best config is {best}. Train it, and let its test rows judge it once: tftjax train {best}"
    )
    return Summary("Search", parts)
