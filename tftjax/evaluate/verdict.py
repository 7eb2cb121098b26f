"""What a report says first: whether a forecast has earned its keep, and what else must be known of it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tftjax.evaluate.formatting import (
    BASIS_POINTS,
    CORRELATION,
    GAIN,
    LOSS,
    RATIO,
    Metrics,
    Number,
    p_text,
    relative,
    share,
)
from tftjax.evaluate.scoring import SPLIT_NAMES
from tftjax.evaluate.significance import ALPHA, MIN_DAYS
from tftjax.evaluate.tables import Summary, against_baselines
from tftjax.evaluate.trading import REFERENCE


def headline(metrics: Metrics) -> tuple[str, str]:
    """Whether the model has earned its keep on one split: mark and sentence.

    It has if it beats every baseline significantly: each is a forecast that needs no network.
    """
    tests = metrics["tests"]
    found = tests["diebold_mariano"]
    if tests["days"] < MIN_DAYS or not found:
        return "open", "No verdict: too few days" if found else "No verdict: no baseline has a forecast"
    beaten = count_beaten(metrics)
    if beaten == len(found):
        return "good", f"Has earned its keep: beats all {len(found)} baselines"
    return "bad", f"Has not earned its keep: beats {beaten} of {len(found)} baselines"


class Verdict(NamedTuple):
    """What a page says first: `mark` is "good", "bad" or "open"."""

    mark: str
    headline: str
    line: str
    points: list[str]


def count_beaten(metrics: Metrics) -> int:
    """How many baselines the model beats on one split."""
    return sum(beats(test) for test in metrics["tests"]["diebold_mariano"].values())


def beats(test: Mapping[str, Any]) -> bool:
    """Whether a Diebold-Mariano test says that the model is better."""
    return test["p"] is not None and test["p"] < ALPHA and test["difference"] < 0


def verdict_of(metrics: Metrics) -> Verdict:
    """The verdict on the test rows, with what else a reader must know beside it."""
    mark, said = headline(metrics)
    points = [_hardest(metrics), _direction(metrics), _intervals(metrics), _spread(metrics)]
    points.append(f"Quality: {quality_text(metrics)}.")
    points.append(_earned(metrics["trading"]))
    points.append(
        "This is one training: another seed gives other numbers, and only several say how far apart."
    )
    return Verdict(mark, said, f"Test rows: {verdict(metrics)}.", [point for point in points if point])


def _hardest(metrics: Metrics) -> str:
    name = hardest(metrics["baselines"])
    if name is None:
        return ""
    theirs, test = metrics["baselines"][name]["pinball"], metrics["tests"]["diebold_mariano"][name]
    said = (
        f"The best baseline, {name}, has a pinball loss of {LOSS.number(theirs)}e-3; the model's is"
        f" {LOSS.number(metrics['pinball'])}e-3"
    )
    share_text = percent_of(test, theirs)
    return f"{said}, {share_text}." if share_text else f"{said}."


def percent_of(test: Mapping[str, Any], loss: Number) -> str:
    """A difference in percent of a loss, with its interval; nothing where the loss is zero."""
    found = {name: relative(test[name], loss) for name in ("difference", "low", "high")}
    if found["difference"] is None:
        return ""
    bounds = GAIN.interval(found["low"], found["high"], "+")
    return f"{GAIN.number(found['difference'], '+')} %" + (f", 95 % interval {bounds} %" if bounds else "")


def _direction(metrics: Metrics) -> str:
    if metrics.get("directional_accuracy") is None:
        return ""
    test = metrics["tests"].get("pesaran_timmermann", {"p": None})
    p = f"; Pesaran-Timmermann {p_text(test['p'])}" if test["p"] is not None else ""
    return (
        f"Direction: right on {share(metrics['directional_accuracy'])} of the days; the commoner sign every"
        f" day would be right on {share(metrics['directional_base_rate'])}{p}."
    )


def _intervals(metrics: Metrics) -> str:
    said = [
        f"the {nominal} % interval covers {share(found)}" for nominal, found in metrics["coverage"].items()
    ]
    test = metrics["tests"].get("pit", {"p": None})
    p = f"; PIT test of calibration {p_text(test['p'])}" if test["p"] is not None else ""
    return f"Intervals: {', '.join(said)}{p}." if said else ""


def _spread(metrics: Metrics) -> str:
    correlation = metrics.get("correlation")
    text = "undefined, as one of them is constant" if correlation is None else CORRELATION.number(correlation)
    return (
        f"Median forecasts: sigma {BASIS_POINTS.number(metrics['sigma'])} bp,"
        f" {share(metrics['share_positive'])} above zero, correlation with what happened {text}."
    )


def _earned(trading: Metrics) -> str:
    sign, hold = trading["sign"], trading[REFERENCE]
    if sign["sharpe"] is None or hold["sharpe"] is None:
        return ""
    mine, theirs = (RATIO.estimate(held["sharpe"], held["low"], held["high"]) for held in (sign, hold))
    return f"Trading the sign, after costs: Sharpe ratio {mine}; buy and hold {theirs}."


def summary(metrics: Mapping[str, Metrics]) -> str:
    """For the terminal: by split a table of the model beside its baselines, then what follows of the test."""
    tables = [against_baselines(values, f"{SPLIT_NAMES[split]} rows") for split, values in metrics.items()]
    # The notes differ in the share of the commoner sign alone.
    parts = [*(table._replace(note="") for table in tables[:-1]), tables[-1]]
    test = metrics["test"]
    return Summary("", [*parts, f"Test rows: {verdict(test)}", f"Test rows: {quality_text(test)}"]).terminal()


def verdict(metrics: Mapping[str, Any]) -> str:
    """A line on one split's metrics: which baselines the model beats, by Diebold and Mariano's test.

    Args:
        metrics: of one split, as `evaluate` returns them.
    """
    tests = metrics["tests"]
    found = tests["diebold_mariano"]
    if tests["days"] < MIN_DAYS:
        return f"no verdict: {tests['days']} days are too few for a test, which takes {MIN_DAYS}"
    beaten, level, worse = [], [], []
    for name, test in found.items():
        if test["p"] is None:
            level.append(f"{name}: no difference")
        elif test["p"] >= ALPHA:
            level.append(f"{name}: {p_text(test['p'])}")
        else:
            (beaten if test["difference"] < 0 else worse).append(f"{name}: {p_text(test['p'])}")
    parts = [f"beats {len(beaten)} of {len(found)} baselines (DM p < {ALPHA:g})"]
    parts += [f"does not beat {', '.join(level)}"] if level else []
    parts += [f"is worse than {', '.join(worse)}"] if worse else []
    return "; ".join(parts)


def quality_text(metrics: Mapping[str, Any]) -> str:
    """A line on the modes of one split, the most frequent first, and what chance gives."""
    found = {name: value for name, value in metrics["quality"].items() if value is not None}
    if not found:
        return "no quality modes: fewer rows than a window"
    shown = sorted((name for name, value in found.items() if value), key=found.__getitem__, reverse=True)
    shown += [] if "HEALTHY" in shown else ["HEALTHY"]
    random = metrics["quality_random"]
    parts = [f"{name} {share(found[name], 0)} (chance {share(random[name], 0)})" for name in shown]
    return f"of the time {', '.join(parts)}"


def best_on_validation(metrics: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The baseline with the lowest pinball loss on validation; None without any."""
    return hardest(metrics["val"]["baselines"])


def hardest(baselines: Mapping[str, Metrics]) -> str | None:
    """The baseline with the lowest pinball loss; None without any."""
    return min(baselines, key=lambda name: baselines[name]["pinball"], default=None)
