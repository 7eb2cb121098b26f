"""The tables of a report, made of what metrics.json holds; nothing is computed from forecasts."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import pandas as pd

from tftjax.evaluate.baselines import BASELINES
from tftjax.evaluate.files import Predictions
from tftjax.evaluate.formatting import Metrics, Number, interval, number, p_text, relative, share
from tftjax.evaluate.quality import MODES
from tftjax.evaluate.significance import ALPHA, Difference
from tftjax.evaluate.trading import POSITIONS, REFERENCE


class Cell(NamedTuple):
    """A table's cell: `mark` is "best", "good", "bad", "model" or "prose"; `link` a relative address."""

    text: str
    mark: str = ""
    link: str = ""


class Table(NamedTuple):
    """A table for the page; the first cell of a row is its heading. `note` says how to read it."""

    title: str
    head: tuple[str, ...]
    rows: list[list[Cell]]
    note: str = ""


def against_baselines(metrics: Metrics, title: str) -> Table:
    """The model and its baselines in one split, by pinball loss; the best of each column marked."""
    everyone = {"model": metrics, **metrics["baselines"]}
    ranked = {name: everyone[name] for name in sorted(everyone, key=lambda name: everyone[name]["pinball"])}
    tests = metrics["tests"]["diebold_mariano"]
    return compared(title, ranked, {"model"}, tests, "model minus it", "Sorted by pinball loss")


def compared(
    title: str,
    everyone: Mapping[str, Metrics],
    models: Collection[str],
    tests: Mapping[str, Mapping[str, Any]],
    difference: str,
    order: str,
) -> Table:
    """Forecasts of the same returns beside each other; the best of each column marked.

    Args:
      everyone: their metrics, in the order of the rows.
      models: those that are no baselines.
      tests: Diebold and Mariano's, by the forecast in whose row each stands; `difference` says of what.
      order: why the rows stand in their order.
    """
    coverage = next(iter(everyone.values()))["coverage"]
    nominal = next((key for key in ("80", *coverage) if key in coverage), None)
    columns = {
        "pinball": {name: values["pinball"] for name, values in everyone.items()},
        "crps": {name: values["crps"] for name, values in everyone.items()},
        "direction": {name: -(values.get("directional_accuracy") or 0) for name, values in everyone.items()},
    }
    if nominal is not None:
        columns["coverage"] = {
            name: abs(values["coverage"][nominal] - float(nominal) / 100) for name, values in everyone.items()
        }

    def marked(column: str, name: str, text: str) -> Cell:
        return Cell(text, "best" if columns[column][name] <= min(columns[column].values()) else "")

    rows = []
    for name, values in everyone.items():
        row = [Cell(name, "model" if name in models else "")]
        row.append(marked("pinball", name, number(values["pinball"], 1e3, 4)))
        row += _tested(tests[name]) if name in tests else [Cell(""), Cell("")]
        row.append(marked("crps", name, number(values["crps"], 1e3, 3)))
        if nominal is not None:
            row.append(marked("coverage", name, share(values["coverage"][nominal])))
        row.append(Cell(number(values["sigma"], 1e4, 1)))
        row.append(Cell(share(values["share_positive"])))
        row.append(marked("direction", name, share(values.get("directional_accuracy"))))
        row.append(Cell(number(values.get("correlation"), 1, 3)))
        rows.append(row)
    covered = (f"{nominal} % interval covers",) if nominal is not None else ()
    head = ("", "pinball, 1e-3", f"{difference} [95 %]", "DM test", "CRPS, 1e-3", *covered)
    head += ("sigma, bp", "positive", "direction right", "correlation")
    base = next(iter(everyone.values())).get("directional_base_rate")
    note = (
        f"{order}; the best of a column is bold and underlined. DM: two-sided Diebold-Mariano"
        " test of the daily difference, errors robust to autocorrelation. The commoner sign every day would"
        f" be right on {share(base)}. -: undefined, as the forecast is constant or there are too few days."
    )
    return Table(title, head, rows, note)


def _tested(test: Mapping[str, Any], factor: Number = 1e3) -> list[Cell]:
    """Difference with its interval, and the test; green where the model is better, red where it is worse."""
    significant = test["p"] is not None and test["p"] < ALPHA
    mark = ("good" if test["difference"] < 0 else "bad") if significant else ""
    bounds = interval(test["low"], test["high"], factor, 4, "+")
    word = {"good": "better, ", "bad": "worse, ", "": ""}[mark]
    said = "no test" if test["p"] is None else f"{word}{p_text(test['p'])}"
    return [Cell(f"{number(test['difference'], factor, 4, '+')} {bounds}".strip()), Cell(said, mark)]


def against_runs(differences: Mapping[str, tuple[float, Difference]]) -> Table:
    """Other runs of the same call, on the same days.

    Args:
      differences: by name of a run, its pinball loss, and this run minus it.
    """
    rows = [
        [Cell(name), Cell(number(pinball, 1e3, 4)), *_tested(found._asdict())]
        for name, (pinball, found) in differences.items()
    ]
    head = ("", "pinball, 1e-3", "this run minus it [95 %]", "DM test")
    return Table("Beside the other runs", head, rows, "The same test days; model: this run.")


def by_regime(division: str, regimes: Mapping[str, Metrics]) -> Table:
    """Pinball loss of the model in each regime, and its difference from each baseline's.

    Args:
      division: what divides the windows.
      regimes: what metrics.json holds of it.
    """
    names = list(dict.fromkeys(name for values in regimes.values() for name in values.get("baselines", {})))
    rows = []
    for label, values in regimes.items():
        row = [Cell(label), Cell(f"{values['windows']:,}"), Cell(number(values.get("pinball"), 1e3, 4))]
        for name in names:
            theirs = values.get("baselines", {}).get(name, {}).get("pinball")
            found = None if theirs is None else relative(values["pinball"] - theirs, theirs)
            row.append(Cell(number(found, 100, 2, "+")))
        rows.append(row)
    head = ("", "windows", "pinball, 1e-3", *(f"minus {name}, %" for name in names))
    what = (
        "Calm, middle, stormy: the third of the train windows in which the moving volatility before the"
        " window lies; a quiet test period has few stormy days."
        if division == "volatility"
        else "The thresholds are those of the run's attention, of the last value known before the window."
    )
    below = " Below zero the model is better; without a test: the windows of a regime are few."
    note = what + (below if names else "")
    return Table(f"By {division}", head, rows, note)


def tails(tests: Mapping[str, Any]) -> Table | None:
    """Tests of the outer quantiles as value at risk; None of several series."""
    found = tests.get("value_at_risk")
    if found is None:
        return None
    rows = [
        [
            Cell(level),
            Cell(f"{values['violations']}"),
            Cell(number(values["expected"], 1, 1)),
            *(_p_cell(values[name]) for name in ("kupiec_p", "independence_p", "coverage_p")),
        ]
        for level, values in found.items()
    ]
    head = ("quantile", "days outside", "expected", "their number (Kupiec)", "their independence", "both")
    note = "Christoffersen's tests beside Kupiec's. A small p: the tail is wrong. -: too few days or cases."
    return Table("Outer quantiles as value at risk", head, rows, note)


def _p_cell(p: float | None) -> Cell:
    return Cell("-" if p is None else p_text(p), "bad" if p is not None and p < ALPHA else "")


def modes(metrics: Metrics) -> Table:
    """The share of time in each quality mode beside what random forecasts get."""
    own, chance = metrics["quality"], metrics["quality_random"]
    rows = [
        [Cell(mode.replace("_", " ").lower()), Cell(share(own[mode], 0)), Cell(share(chance[mode], 0))]
        for mode in MODES
    ]
    note = (
        "Chance: random normal forecasts with the same mean and sigma. Only what the model has beyond chance"
        " is its own. Thresholds: evaluation in the config."
    )
    return Table("Share of the time in each mode", ("mode", "model", "chance"), rows, note)


def earnings(trading: Metrics) -> Table:
    """Sharpe ratios of positions that the median leads to, beside buy and hold."""
    rows = []
    for name in POSITIONS:
        values = trading[name]
        row = [Cell(name.replace("_", " "))]
        row.append(Cell(f"{number(values['sharpe'])} {interval(values['low'], values['high'])}".strip()))
        beyond = ""
        if name != REFERENCE:
            bounds = interval(values["excess_low"], values["excess_high"], 1, 2, "+")
            beyond = f"{number(values['excess'], 1, 2, '+')} {bounds}".strip()
        rows.append([*row, Cell(beyond), Cell(share(values["turnover"]))])
    head = ("position", "Sharpe ratio [95 %]", "minus buy and hold [95 %]", "turnover a period")
    note = (
        f"A year, after a cost of {share(trading['cost'], 2)} of what is traded; no riskless rate, no"
        " slippage: it shows what a forecast is worth, not a strategy. Block-bootstrap intervals."
    )
    return Table("Sharpe ratios of following the median", head, rows, note)


def by_series(table: pd.DataFrame) -> Table:
    """Pinball loss of each series of the test rows, its lowest marked."""
    own = table[table["split"] == "test"]
    names = [name for name in own if name not in ("series", "split", "windows")]
    rows = []
    for _, row in own.iterrows():
        lowest = min(row[name] for name in names)
        cells = [Cell(number(row[name], 1e3, 4), "best" if row[name] == lowest else "") for name in names]
        rows.append([Cell(str(row["series"])), *cells])
    return Table("By series", ("series", *names), rows, "Pinball loss of the test rows, 1e-3.")


def left_out(notes: Mapping[str, Any]) -> list[str]:
    """The baselines without a forecast, and why; what vix_scaled scales by."""
    said = [f"{name} is left out: {reason}." for name, reason in notes["left_out"].items()]
    column = notes["volatility_column"]
    if column is not None and "vix_scaled" not in notes["left_out"]:
        said.append(f"vix_scaled scales by {column}.")
    return said


def described() -> list[tuple[str, str]]:
    """What each baseline is, in the words of its function."""
    return [(name, baseline.__doc__.strip().splitlines()[0]) for name, baseline in BASELINES.items()]


def independent(test: Predictions) -> int:
    """How many actuals bands may take as independent: those of one series and step, else none."""
    several = test.target.shape[1] > 1 or len(set(test.series)) > 1
    return 0 if several else len(test.target)
