"""The words of statistics on a page, explained where they stand."""

import re
from collections.abc import Iterable

# By pattern, the word and what it means. Of a heading the first that matches is its title.
TERMS = {
    "[Ss]kill": ("skill", "The gain in pinball loss over a baseline, in percent: above 0 is better."),
    "[Pp]inball": (
        "pinball loss",
        "How far the forecast quantiles were from what came: one number that judges the whole distribution."
        " Lower is better. In units of 1e-3, 2.1 is 0.21 % of return.",
    ),
    "CRPS": ("CRPS", "Like the pinball loss, over the whole distribution. Lower is better."),
    r"DM test|\bDM\b|Diebold": (
        "DM test",
        "Diebold and Mariano's test: could so large a difference between two forecasts be chance? p is the"
        " probability of one as large if there were none; below 0.05 the difference counts.",
    ),
    "interval covers|[Cc]overage": (
        "coverage",
        "The share of days that fell inside the forecast interval. An 80 % interval should hold 80 %: if it"
        " holds more it is too wide, if less too narrow.",
    ),
    "VaR|value at risk|FZ0": (
        "value at risk, expected shortfall (VaR, ES)",
        "The return that only the given share of days falls below, and the mean of those days. FZ0 scores"
        " both together; lower is better.",
    ),
    "spread": (
        "spread of the medians",
        "How much the middle forecast moves from day to day (its standard deviation). It is no volatility."
        " Near 0 the model says the same every day.",
    ),
    "positive": ("positive", "The share of days on which the middle forecast is above zero."),
    "[Dd]irection|base rate|Pesaran": (
        "direction, base rate",
        "How often the middle forecast has the sign of what came. The base rate is what the commoner sign on"
        " every day would reach; Pesaran and Timmermann's test asks whether the rest could be chance.",
    ),
    "correlation": ("correlation", "Of the middle forecast with what came: 0 says nothing, 1 is perfect."),
    r"healthy|mode\b|[Qq]uality": (
        "quality modes",
        "Whether the middle forecasts say anything over a stretch of days: collapsed (nearly constant),"
        " unidirectional, degraded (wrong more often than right), neutral, healthy.",
    ),
    "PIT|calibrat": (
        "PIT, calibration",
        "Whether what came fell below each forecast quantile as often as its level says.",
    ),
    "Kupiec|Christoffersen": (
        "Kupiec, Christoffersen",
        "Tests of whether too many or too few days fell beyond an outer quantile, and whether they come in"
        " clusters.",
    ),
    "Sharpe": ("Sharpe ratio", "Mean return over its volatility, a year."),
    "turnover": ("turnover", "How much of the position is traded, a period."),
    "confidence set": (
        "model confidence set",
        "The forecasts that cannot be told from the best, all compared at once.",
    ),
    "[Cc]ombination|encompassing": (
        "combination, encompassing",
        "The model's quantiles averaged with those of other forecasts. Encompassing: does the model add"
        " anything that the other lacks?",
    ),
    "[Cc]onformal": (
        "conformal calibration",
        "The model's quantiles, shifted so that in validation rows (split), or up to the day before"
        " (adaptive), as many outcomes lay below each as its level says.",
    ),
    r"Wilson|\[95 %": ("[a, b]", "A 95 % interval: the range in which the number behind the estimate lies."),
    "baseline": ("baseline", "A simple method that the model must beat to earn its keep."),
    r"\bseed": ("seed", "The number that a training's chance starts from; another one gives another model."),
    r"\bfold": ("fold", "A test period, and the training on the rows before it."),
}


def terms_in(texts: Iterable[str]) -> list[tuple[str, str]]:
    """The terms that stand in texts, each with its meaning."""
    text = " ".join(texts)
    return [term for pattern, term in TERMS.items() if re.search(pattern, text)]
