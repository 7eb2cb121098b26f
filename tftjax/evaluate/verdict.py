"""Verdicts: whether a forecast has earned its keep, in words, with the facts a reader must know beside it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tftjax.evaluate.files import read_metrics
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
from tftjax.evaluate.metrics import flatten, same_forecasts
from tftjax.evaluate.scoring import SPLIT_NAMES
from tftjax.evaluate.significance import ALPHA, MIN_DAYS, not_told_from_best
from tftjax.evaluate.tables import Summary, against_baselines, coverage_text, mark_of
from tftjax.evaluate.trading import REFERENCE


def headline(metrics: Metrics) -> tuple[str, str]:
    """Mark and sentence: the model has earned its keep if it beats every baseline significantly."""
    days, total = metrics["tests"]["days"], count_baselines(metrics)
    if days < MIN_DAYS or not total:
        return "open", "No verdict: too few dates" if total else "No verdict: no baseline has a forecast"
    beaten = count_beaten(metrics)
    if beaten == total:
        return "good", f"Has earned its keep: beats all {total} baselines"
    return "bad", f"Has not earned its keep: beats {beaten} of {total} baselines"


class Verdict(NamedTuple):
    """The head of a page: `mark` is "good", "bad" or "open"; `plain` is for who does not know the tests."""

    mark: str
    headline: str
    line: str
    points: list[str]
    plain: str = ""


def in_words(metrics: Metrics, noun: str = "day") -> str:
    """What the verdict means for someone who uses the forecast, without a word of statistics.

    Args:
      noun: what a row is; see `noun_of`.
    """
    tests, best = _tests(metrics), hardest(metrics["baselines"])
    days = metrics["tests"]["days"]
    if days < MIN_DAYS or best is None:
        return "There is too little to compare with, so nobody can say yet whether to trust this forecast."
    marks = [mark_of(test) for test in tests.values()]
    unseen = f"On {days:,} {noun}s that it had not seen, this forecast's error (pinball loss) was"
    if set(marks) == {"good"}:
        return f"{unseen} smaller than that of every simpler method beside it, by more than chance explains."
    difference = relative(tests[best]["difference"], metrics["baselines"][best]["pinball"]) or 0.0
    size = f"{unseen} {abs(difference):.1%} {'larger' if difference > 0 else 'smaller'}".replace("%", " %")
    counts = (
        f" Of {len(marks)} simpler methods it is better than {marks.count('good')}, worse than"
        f" {marks.count('bad')}, and cannot be told from {marks.count('')}."
    )
    if mark_of(tests[best]) == "bad":
        advice = f" than that of the simpler method {best}, by more than chance explains. Prefer that one."
    elif mark_of(tests[best]) == "":
        advice = f" than that of the simpler method {best}, which may be chance."
    else:
        advice = f" than that of the best simpler method, {best}, by more than chance explains."
        counts += f" Wait for more {noun}s before you rely on it."
    return size + advice + counts


def intervals_in_words(metrics: Metrics, count: int, noun: str = "day") -> str:
    """What the widest-used interval was worth, in a sentence or two; nothing without one.

    Args:
      count: the number of forecasts, one a row unless there are several series or steps.
      noun: what a row is; see `noun_of`.
    """
    days, band = metrics["tests"]["days"], shown_band(metrics["coverage"])
    if band is None:
        return ""
    flat, nominal = flatten(metrics), float(band) / 100
    held, low, high = (flat.get(f"{name}/{band}") for name in ("coverage", "coverage_low", "coverage_high"))
    what = f"{days:,} {noun}s" if count == days else f"{count:,} forecasts on {days:,} {noun}s"
    said = f"The {band} % band held {share(held, 0)} of {what}"
    if low is None:
        return f"{said}; {band} % would be right."
    if low <= nominal <= high:
        return f"{said}: the difference to {band} % is within chance."
    worth = f"too narrow: more {noun}s than it says fall outside" if held < nominal else "too wide"
    return f"{said}: it is {worth}."


def tails_in_words(metrics: Metrics, noun: str = "day") -> str:
    """Which outer quantiles were passed too often, too seldom or in clusters; nothing of several series.

    Args:
      noun: what a row is; see `noun_of`.
    """
    sentences = []
    for level, values in metrics["tests"].get("value_at_risk", {}).items():
        beyond = f"{'below' if float(level) < 0.5 else 'above'} the {100 * float(level):g} % quantile"
        wrong = {name: p is not None and p < ALPHA for name, p in values.items() if name.endswith("_p")}
        few = values["violations"] < values["expected"]
        if wrong["kupiec_p"]:
            sentences.append(
                f"{values['violations']} {noun}s lay {beyond}, and {values['expected']:.0f} were expected:"
                f" too {'few' if few else 'many'} for chance."
            )
        elif wrong["independence_p"]:
            count = f"{values['violations']} {noun}s {beyond} ({values['expected']:.0f} expected)"
            sentences.append(f"The {count} came in clusters.")
    return " ".join(sentences)


def shown_band(percents: Iterable[str]) -> str | None:
    """The interval that is spoken of in words, by its percent: the nearest to 80."""
    return min(percents, key=lambda percent: abs(float(percent) - 80), default=None)


def count_beaten(metrics: Metrics) -> int:
    """The number of baselines that the model beats significantly on one split, equal ones once."""
    return sum(mark_of(test) == "good" for test in _tests(metrics).values())


def count_baselines(metrics: Metrics) -> int:
    """The number of baselines, those of equal forecasts once."""
    return len(_tests(metrics))


def _tests(metrics: Metrics, foreign: bool = False) -> dict[str, Mapping[str, Any]]:
    """Diebold and Mariano's tests against the baselines, equal ones once, or against foreign forecasts."""
    names, tests = metrics.get("foreign", {}), metrics["tests"]["diebold_mariano"]
    again = {} if foreign else same_forecasts(metrics.get("baselines", {}))
    return {name: test for name, test in tests.items() if (name in names) == foreign and name not in again}


def combination_line(metrics: Metrics) -> str:
    """The combination's verdict beside the model's, and what the model adds; nothing where there is none."""
    if "combination" not in metrics:
        return ""
    weights, tests = (metrics["combination"][name] for name in ("weights", "tests"))
    named = ", ".join(f"{name} {weight:.2g}" for name, weight in weights.items() if weight)
    beaten = count_beaten({**metrics, "tests": tests})
    said = f"beats {beaten} of {count_baselines(metrics)} baselines, the model alone {count_beaten(metrics)}"
    difference = percent_of(tests["model"], metrics["pinball"]) or "undefined"
    parts = [
        f"Combination, weights chosen on validation ({named}):"
        f" {said if tests['days'] >= MIN_DAYS else 'too few dates for a test'}",
        f"its pinball loss minus the model's: {difference}",
    ]
    parts += [_added(name, test) for name, test in metrics["encompassing"].items()]
    return f"{'; '.join(parts)}."


def conformal_line(metrics: Metrics) -> str:
    """What the conformal calibration was worth; nothing where there is none."""
    if "conformal" not in metrics:
        return ""
    found, flat = metrics["conformal"], flatten(metrics)
    test, calibrated = found["tests"]["model"], flatten(found["metrics"])
    beaten = count_beaten({**metrics, "tests": found["tests"]})
    said = {"good": "helps", "bad": "hurts", "": "makes no difference that can be told"}[mark_of(test)]
    p = "" if test["p"] is None else f", {p_text(test['p'])}"
    parts = [
        f"Conformal calibration ({found['method']}) {said}: its pinball loss minus the model's is"
        f" {percent_of(test, metrics['pinball']) or 'undefined'}{p}",
        f"beats {beaten} of {count_baselines(metrics)} baselines, the model alone {count_beaten(metrics)}",
    ]
    parts += [
        f"the {part} % interval covers {coverage_text(calibrated, part)}, before {coverage_text(flat, part)}"
        for part in metrics["coverage"]
    ]
    return f"{'; '.join(parts)}."


def _added(name: str, test: Mapping[str, Any]) -> str:
    """What the model adds to another forecast, by the test of encompassing."""
    weight = "" if test["weight"] is None else f"weight {test['weight']:.2g} on validation, "
    if test["p"] is None:
        return f"no test of what the model adds to {name} ({weight}too few dates, or the same forecast)"
    adds = "the model adds to" if test["p"] < ALPHA else "it is not shown that the model adds to"
    return f"{adds} {name} ({weight}encompassing {p_text(test['p'])})"


def verdict_of(metrics: Metrics, noun: str = "day") -> Verdict:
    """The verdict on the test rows; for `noun` see `in_words`."""
    points = [
        _hardest(metrics),
        among_the_best(metrics),
        combination_line(metrics),
        conformal_line(metrics),
        _direction(metrics),
        _intervals(metrics),
        _spread(metrics),
        f"Quality: {quality_text(metrics)}.",
        _earned(metrics["trading"]),
        "This is one training: another seed gives other numbers, and only several say how far apart.",
    ]
    line = f"Test rows: {verdict(metrics)}."
    return Verdict(*headline(metrics), line, [*filter(None, points)], in_words(metrics, noun))


def _hardest(metrics: Metrics) -> str:
    name = hardest(metrics["baselines"])
    if name is None:
        return ""
    loss = metrics["baselines"][name]["pinball"]
    difference = percent_of(metrics["tests"]["diebold_mariano"][name], loss)
    return (
        f"The best baseline, {name}, has a pinball loss of {LOSS.number(loss)}e-3; the model's is"
        f" {LOSS.number(metrics['pinball'])}e-3{f', {difference}' if difference else ''}."
    )


def percent_of(test: Mapping[str, Any], loss: Number) -> str:
    """A difference in percent of a loss, with its interval; nothing where the loss is zero."""
    difference, low, high = (relative(test[name], loss) for name in ("difference", "low", "high"))
    if difference is None:
        return ""
    bounds = GAIN.interval(low, high, "+")
    return f"{GAIN.number(difference, '+')} %" + (f", 95 % interval {bounds} %" if bounds else "")


def among_the_best(metrics: Metrics) -> str:
    """The forecasts that cannot be told from the best; nothing where there are too few dates."""
    names = not_told_from_best(metrics["tests"].get("confidence_set", {}))
    if not names:
        return ""
    if len(names) == 1:
        return f"All compared at once, {names[0]} is the best (95 % model confidence set)."
    return (
        "All compared at once, these cannot be told from the best (95 % model confidence set):"
        f" {', '.join(names)}."
    )


def _direction(metrics: Metrics) -> str:
    if metrics.get("directional_accuracy") is None:
        return ""
    p = _p_of(metrics, "pesaran_timmermann", "Pesaran-Timmermann")
    return (
        f"Direction: right on {share(metrics['directional_accuracy'])} of the dates; the commoner sign on"
        f" every date would be right on {share(metrics.get('directional_base_rate'))}{p}."
    )


def _intervals(metrics: Metrics) -> str:
    flat = flatten(metrics)
    parts = [f"the {part} % interval covers {coverage_text(flat, part)}" for part in metrics["coverage"]]
    p = _p_of(metrics, "pit", "PIT test of calibration")
    return f"Intervals: {', '.join(parts)}{p}." if parts else ""


def _p_of(metrics: Metrics, test: str, title: str) -> str:
    p = metrics["tests"].get(test, {"p": None})["p"]
    return f"; {title} {p_text(p)}" if p is not None else ""


def _spread(metrics: Metrics) -> str:
    correlation = metrics.get("correlation")
    text = "undefined, as one of them is constant" if correlation is None else CORRELATION.number(correlation)
    return (
        f"Median forecasts: their spread is {BASIS_POINTS.number(metrics['sigma'])} bp,"
        f" {share(metrics.get('share_positive'))} above zero, correlation with the actual returns {text}."
    )


def _earned(trading: Metrics) -> str:
    sign, hold = trading["sign"], trading[REFERENCE]
    if sign["sharpe"] is None or hold["sharpe"] is None:
        return ""
    sign, hold = (RATIO.estimate(held["sharpe"], held["low"], held["high"]) for held in (sign, hold))
    return f"Trading the sign, after costs: Sharpe ratio {sign}; buy and hold {hold}."


def in_paragraphs(test: Metrics) -> list[str]:
    """The verdict on the test rows in paragraphs: one sentence, the baselines by name, then all at once."""
    parts = [f"{headline(test)[1]}.", f"Test rows: {verdict(test)}.", among_the_best(test)]
    return [*filter(None, parts)]


def summary(metrics: Mapping[str, Metrics], notes: Sequence[str] = ()) -> str:
    """For the terminal: by split the model beside its baselines, then the verdict on the test rows.

    The verdict is last, as that is what a screen shows of a long text.

    Args:
      notes: paragraphs before the verdict.
    """
    *others, last = [
        against_baselines(values, f"{SPLIT_NAMES[split]} rows") for split, values in metrics.items()
    ]
    # The loss alone, and no note: that below the last table holds for all.
    short = [table._replace(head=table.head[:4], rows=[row[:4] for row in table.rows]) for table in others]
    test = metrics["test"]
    parts = [
        *(table._replace(note="") for table in short),
        last,
        f"Quality: {quality_text(test)}.",
        *filter(None, [combination_line(test), conformal_line(test)]),
        *notes,
        *in_paragraphs(test),
    ]
    return Summary("", parts).terminal()


def verdict(metrics: Metrics) -> str:
    """A line on one split: the baselines that the model beats, by Diebold and Mariano's test.

    Foreign forecasts follow by name: they do not count as baselines.
    """
    days, tests, foreign = metrics["tests"]["days"], _tests(metrics), _tests(metrics, foreign=True)
    if days < MIN_DAYS:
        return f"no verdict: {days} dates are too few for a test, which takes {MIN_DAYS}"
    equal: dict[str, list[str]] = {}
    for name, first in same_forecasts(metrics.get("baselines", {})).items():
        equal.setdefault(first, []).append(name)
    parts = [f"beats {count_beaten(metrics)} of {len(tests)} baselines (DM p < {ALPHA:g})"]
    for marked, kind, words in ((tests, "", ("", "bad")), (foreign, "the foreign ", WORDS)):
        for mark in words:
            names = [
                f"{' = '.join([name, *equal.get(name, [])])} ({_p(test)})"
                for name, test in marked.items()
                if mark_of(test) == mark
            ]
            parts += [f"{WORDS[mark]} {kind}{', '.join(names)}"] if names else []
    return "; ".join(parts)


# By mark of a test; see `tables.mark_of`.
WORDS = {"good": "beats", "": "cannot be told from", "bad": "is worse than"}


def _p(test: Mapping[str, Any]) -> str:
    return "no difference" if test["p"] is None else p_text(test["p"])


def read_verdict(path: Path, remedy: str) -> str:
    """The `verdict` on the test rows of a metrics.json; see `read_metrics`."""
    return verdict(read_metrics(path, ("test",), remedy)["test"])


def quality_text(metrics: Metrics) -> str:
    """A line on the modes of one split, the most frequent first, and their shares by chance."""
    shares = {name: value for name, value in metrics["quality"].items() if value is not None}
    if not shares:
        return "no quality modes: fewer rows than a window"
    names = sorted((name for name, value in shares.items() if value), key=shares.__getitem__, reverse=True)
    names += [] if "HEALTHY" in names else ["HEALTHY"]
    random = metrics["quality_random"]
    parts = [f"{name} {share(shares[name], 0)} (chance {share(random[name], 0)})" for name in names]
    return f"of the time {', '.join(parts)}"


def hardest(baselines: Mapping[str, Metrics]) -> str | None:
    """The baseline with the lowest pinball loss, of equal ones the first; None without any."""
    again = same_forecasts(baselines)
    names = [name for name in baselines if name not in again]
    return min(names, key=lambda name: baselines[name]["pinball"], default=None)
