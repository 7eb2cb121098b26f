"""What a report says first: whether a forecast has earned its keep, and what else must be known of it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tftjax.evaluate.formatting import Metrics, Number, interval, number, p_text, relative, share
from tftjax.evaluate.significance import ALPHA, MIN_DAYS
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
    others = metrics["baselines"]
    if not others:
        return ""
    name = min(others, key=lambda other: others[other]["pinball"])
    theirs, test = others[name]["pinball"], metrics["tests"]["diebold_mariano"][name]
    said = (
        f"The best baseline, {name}, has a pinball loss of {number(theirs, 1e3, 4)}e-3; the model's is"
        f" {number(metrics['pinball'], 1e3, 4)}e-3"
    )
    share_text = percent_of(test, theirs)
    return f"{said}, {share_text}." if share_text else f"{said}."


def percent_of(test: Mapping[str, Any], loss: Number) -> str:
    """A difference in percent of a loss, with its interval; nothing where the loss is zero."""
    found = {name: relative(test[name], loss) for name in ("difference", "low", "high")}
    if found["difference"] is None:
        return ""
    bounds = interval(found["low"], found["high"], 100, 2, "+")
    return f"{number(found['difference'], 100, 2, '+')} %" + (f", 95 % interval {bounds} %" if bounds else "")


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
    text = "undefined, as one of them is constant" if correlation is None else number(correlation, 1, 3)
    return (
        f"Median forecasts: sigma {number(metrics['sigma'], 1e4, 1)} bp, {share(metrics['share_positive'])}"
        f" above zero, correlation with what happened {text}."
    )


def _earned(trading: Metrics) -> str:
    sign, hold = trading["sign"], trading[REFERENCE]
    if sign["sharpe"] is None or hold["sharpe"] is None:
        return ""
    mine, theirs = (
        f"{number(held['sharpe'])} {interval(held['low'], held['high'])}".strip() for held in (sign, hold)
    )
    return f"Trading the sign, after costs: Sharpe ratio {mine}; buy and hold {theirs}."


def summary(metrics: dict[str, dict]) -> str:
    """For the terminal: a table of the model beside its baselines, by split; what follows of the test."""
    heads = f"{'pinball':>9}{'DM':>10}{'80 % cov':>10}{'sigma':>9}"
    lines = [f"{'':25}{heads}{'positive':>10}{'direction':>11}{'base':>8}{'corr':>8}"]
    for split, model in metrics.items():
        tests = model["tests"]["diebold_mariano"]
        for name, values in {"model": model, **model["baselines"]}.items():
            cover = values["coverage"].get("80")
            p = p_text(tests[name]["p"]) if name in tests else ""
            correlation = values.get("correlation")
            lines.append(
                f"{split + ' ' + name:25}{values['pinball'] * 1e3:9.4f}{p:>10}"
                f"{_percent(cover):>10}{values['sigma'] * 1e4:6.1f} bp"
                f"{_percent(values['share_positive']):>10}"
                f"{_percent(values.get('directional_accuracy')):>11}"
                f"{_percent(values.get('directional_base_rate')):>8}"
                f"{'-' if correlation is None else format(correlation, '.3f'):>8}"
            )
    return "\n".join(
        [
            *lines,
            "pinball in 1e-3; DM: Diebold-Mariano test of the difference from the model; direction: share of",
            "signs right, base: always the more frequent; corr: of median and actual; -: undefined",
            f"test: {verdict(metrics['test'])}",
            f"test: {quality_text(metrics['test'])}",
        ]
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


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
    found = {name: share for name, share in metrics["quality"].items() if share is not None}
    if not found:
        return "no quality modes: fewer rows than a window"
    shown = sorted((name for name, share in found.items() if share), key=found.__getitem__, reverse=True)
    shown += [] if "HEALTHY" in shown else ["HEALTHY"]
    random = metrics["quality_random"]
    parts = [f"{name} {100 * found[name]:.0f} % (chance {100 * random[name]:.0f} %)" for name in shown]
    return f"of the time {', '.join(parts)}"


def best_on_validation(metrics: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The baseline with the lowest pinball loss on validation; None without any."""
    validated = metrics["val"]["baselines"]
    return min(validated, key=lambda name: validated[name]["pinball"], default=None)
