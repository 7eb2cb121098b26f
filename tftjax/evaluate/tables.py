"""Tables of metrics, each made once for page, Markdown and terminal."""

import io
import math
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from tftjax.evaluate.baselines import BASELINES, POOLED
from tftjax.evaluate.files import Predictions
from tftjax.evaluate.formatting import GAIN, LOSS, PERCENT, RATIO, Metrics, p_text, relative, share
from tftjax.evaluate.metrics import MetricColumn, columns, flatten, same_forecasts
from tftjax.evaluate.quality import MODES
from tftjax.evaluate.significance import ALPHA, Difference, confidence_set, superior_ability
from tftjax.evaluate.trading import POSITIONS, REFERENCE

WIDTH = 80  # of a terminal
COVERAGE_NOTE = (
    "In brackets after a coverage its 95 % Wilson interval over the dates (not over seeds); none of several"
    " series or steps, whose returns are not independent draws."
)


class Cell(NamedTuple):
    """A table's cell.

    Attributes:
      mark: "best", "good", "bad", "model" or "prose".
      link: a relative address.
      order: what a page sorts by; None is the text.
    """

    text: str
    mark: str = ""
    link: str = ""
    order: float | None = None


class Table(NamedTuple):
    """A table for page, Markdown and terminal; the first cell of a row is its heading, `note` explains it."""

    title: str
    head: tuple[str, ...]
    rows: list[list[Cell]]
    note: str = ""

    def markdown(self) -> str:
        """The table without its title; the best of a column is bold.

        >>> print(Table("Losses", ("", "loss"), [[Cell("model"), Cell("2.5", "best")]]).markdown())
        |  | loss |
        |---|---|
        | model | **2.5** |
        """
        marked = [[f"**{c.text}**" if c.mark == "best" else c.text for c in row] for row in self.rows]
        escaped = [[text.replace("|", r"\|") for text in row] for row in (self.head, *marked)]
        lines = [f"| {' | '.join(row)} |" for row in escaped]
        lines.insert(1, "|---" * len(self.head) + "|")
        return "\n".join(lines) + (f"\n\n{self.note}" if self.note else "")

    def terminal(self) -> str:
        """The table without its title, in lines of WIDTH, a star at the best of a column.

        Columns that do not fit beside each other follow below, under the same headings of rows.
        """
        from rich.console import Console
        from rich.table import Table as Grid
        from rich.text import Text

        starred = any(cell.mark == "best" for row in self.rows for cell in row)
        star = {True: "*", False: " " if starred else ""}
        texts = [[row[0].text, *(c.text + star[c.mark == "best"] for c in row[1:])] for row in self.rows]
        parts = []
        for block, widths in _blocks(self.head, texts):
            grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0))
            for place, width in zip(block, widths, strict=True):
                side = "right" if place else "left"
                grid.add_column(Text(self.head[place]), width=width, justify=side, vertical="bottom")
            for row in texts:
                grid.add_row(*(Text(row[place]) for place in block))
            console = Console(width=WIDTH, file=io.StringIO(), color_system=None)
            console.print(grid)
            parts.append("\n".join(line.rstrip() for line in console.file.getvalue().splitlines()))
        return "\n\n".join([*parts, *([wrapped(self.note)] if self.note else [])])


def _blocks(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[tuple[list[int], list[int]]]:
    """Places and widths of the columns in each block that fits into WIDTH, the first column in all."""
    needed = []
    for place, title in enumerate(head):
        words = [len(word) for word in title.split()]
        needed.append(max([*words, *(len(row[place]) for row in rows)], default=1))
    first = min(needed[0], WIDTH // 2)
    blocks = [([0], [first])]
    for place, width in enumerate(needed[1:], start=1):
        width = min(width, WIDTH - first - 2)
        if len(blocks[-1][0]) > 1 and sum(blocks[-1][1]) + 2 * len(blocks[-1][1]) + width > WIDTH:
            blocks.append(([0], [first]))
        blocks[-1][0].append(place)
        blocks[-1][1].append(width)
    return blocks


def wrapped(text: str) -> str:
    """A paragraph in lines of WIDTH; a word that is longer, such as a path, stays whole."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


class Summary(NamedTuple):
    """Results for reading: paragraphs, and tables under their titles."""

    title: str
    parts: Sequence[str | Table]

    def markdown(self) -> str:
        """The text of a summary.md."""
        parts = [f"# {self.title}"]
        for part in self.parts:
            parts.append(f"## {part.title}\n\n{part.markdown()}" if isinstance(part, Table) else part)
        return "\n\n".join(parts) + "\n"

    def terminal(self) -> str:
        """The text in lines of WIDTH."""
        parts = [self.title] if self.title else []
        for part in self.parts:
            is_table = isinstance(part, Table)
            parts.append(f"{part.title}\n{part.terminal()}" if is_table else wrapped(part))
        return "\n\n".join(parts)


def metric_cells(
    values: Mapping[str, Any],
    metric_columns: Sequence[MetricColumn],
    best: Mapping[str, float],
    errors: Mapping[str, Any] | None = None,
) -> list[Cell]:
    """A row's cells in columns of metrics.

    Args:
      values: numbers by flat name of a metric; a missing one is a dash.
      best: distances from `best_of`; empty marks none.
      errors: standard errors of values that are means.
    """
    cells = []
    for column in metric_columns:
        value = values.get(column.metric)
        text = column.format.mean(value, (errors or {}).get(column.metric))
        text = f"{text} {column.format.interval(*column.bounds(values))}".rstrip()
        is_best = column.distance(value) <= best.get(column.metric, -math.inf)
        cells.append(Cell(text, "best" if is_best else ""))
    return cells


def coverage_text(values: Mapping[str, Any], percent: str, digits: int = 1) -> str:
    """The coverage of a central interval in percent, with its 95 % interval if it has one.

    >>> coverage_text({"coverage/80": 0.79, "coverage_low/80": 0.77, "coverage_high/80": 0.81}, "80")
    '79.0 % [77.0, 81.0]'

    Args:
      values: numbers by flat name of a metric.
      percent: the nominal percent inside, such as "80".
    """
    bounds = (values.get(f"coverage_{side}/{percent}") for side in ("low", "high"))
    text = share(values[f"coverage/{percent}"], digits)
    return f"{text} {PERCENT._replace(digits=digits).interval(*bounds)}".rstrip()


def best_of(rows: Iterable[Mapping[str, Any]], metric_columns: Sequence[MetricColumn]) -> dict[str, float]:
    """By metric that is a merit, the least distance of any row from the best possible value."""
    least = {c.metric: min(c.distance(values.get(c.metric)) for values in rows) for c in metric_columns}
    return {name: distance for name, distance in least.items() if distance < float("inf")}


def beside(metrics: Metrics) -> dict[str, Metrics]:
    """Metrics of the baselines, then of foreign forecasts, by the names of `shown`."""
    foreign = metrics.get("foreign", {})
    return shown({**metrics.get("baselines", {}), **foreign}, foreign)


def calibrated(metrics: Metrics) -> dict[str, Metrics]:
    """Metrics of the model's calibrated forecast, by its name; none where there is none."""
    if "conformal" not in metrics:
        return {}
    return {f"model, conformal ({metrics['conformal']['method']})": metrics["conformal"]["metrics"]}


def shown(values: Mapping[str, Any], foreign: Collection[str]) -> dict[str, Any]:
    """Values by name, with a mark at the names of foreign forecasts.

    >>> shown({"garch": 1, "chronos": 2}, ["chronos"])
    {'garch': 1, 'chronos (foreign)': 2}
    """
    return {f"{name} (foreign)" if name in foreign else name: value for name, value in values.items()}


def against_baselines(metrics: Metrics, title: str) -> Table:
    """The model, the same calibrated, its baselines and foreign forecasts in one split, by pinball loss."""
    tests = shown(metrics["tests"]["diebold_mariano"], metrics.get("foreign", {}))
    tests |= {name: _reversed(metrics["conformal"]["tests"]["model"]) for name in calibrated(metrics)}
    everyone = {"model": metrics, **calibrated(metrics), **beside(metrics)}
    ranked = {name: everyone[name] for name in sorted(everyone, key=lambda name: everyone[name]["pinball"])}
    models = {"model", *calibrated(metrics)}
    return compared(title, ranked, models, tests, "model minus it", "Sorted by pinball loss")


def _reversed(test: Mapping[str, Any]) -> dict[str, Any]:
    """The test of the second forecast minus the first."""
    difference, low, high = (None if test[k] is None else 0 - test[k] for k in ("difference", "low", "high"))
    return {**test, "difference": difference, "low": high, "high": low}


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
      everyone: metrics by forecast, in the order of the rows.
      models: forecasts that are no baselines.
      tests: Diebold and Mariano's test of the forecast in each row.
      difference: the difference that is tested, such as "model minus it".
      order: a sentence on the order of the rows.
    """
    flat = {name: flatten(values) for name, values in everyone.items()}
    metric_columns = columns(name for values in flat.values() for name in values)
    best = best_of(list(flat.values()), metric_columns)
    rows = []
    for name, values in flat.items():
        pinball, *others = metric_cells(values, metric_columns, best)
        tested = difference_cells(tests[name]) if name in tests else [Cell(""), Cell("")]
        rows.append([Cell(name, "model" if name in models else ""), pinball, *tested, *others])
    titles = [column.title for column in metric_columns]
    head = ("", titles[0], f"{difference} [95 %]", "DM test", *titles[1:])
    base = next(iter(everyone.values())).get("directional_base_rate")
    note = (
        f"{order}; the best of a column is marked. DM: two-sided Diebold-Mariano"
        " test of the differences by date, errors robust to autocorrelation. The commoner sign on every date"
        f" would be right on {share(base)}. -: undefined, as the forecast is constant or there are too few"
        f" dates. {COVERAGE_NOTE} FZ0: the joint score of value at risk and expected shortfall."
    )
    others = {name: values for name, values in everyone.items() if name not in models}
    for name, first in same_forecasts(others).items():
        note += f" {name} forecasts what {first} does: they count as one baseline."
    return Table(title, head, rows, note)


def at_once(title: str, losses: pd.DataFrame, models: Collection[str], note: str) -> Table | None:
    """Forecasts of the same returns, all compared at once; None where there is nothing to say.

    Args:
      losses: pinball loss of each day; a column a forecast, in the order of the rows.
      models: forecasts that are no baselines.
      note: a sentence on the rows.
    """
    p_values = confidence_set({name: losses[name].to_numpy() for name in losses})
    if not p_values:
        return None
    rows = []
    for name, p in p_values.items():
        inside = Cell("no", "bad") if p <= ALPHA else Cell("yes", "good")
        loss = LOSS.number(losses[name].mean())
        rows.append([Cell(name, "model" if name in models else ""), Cell(loss), inside, Cell(p_text(p))])
    note += (
        " The set holds the best of these forecasts with a probability of 95 %, however many they are: those"
        " in it cannot be told from the best (Hansen, Lunde and Nason 2011)."
    )
    baselines = losses.drop(columns=list(models))
    if len(baselines.columns):
        benchmark = baselines.mean().idxmin()
        p = superior_ability(losses[benchmark].to_numpy(), {name: losses[name].to_numpy() for name in models})
        note += (
            f" Hansen's test (2005) of whether any config is better than {benchmark}, the best baseline here:"
            f" {p_text(p)}."
        )
    return Table(title, ("", "pinball, 1e-3", "in the confidence set", "its p"), rows, note)


def combination(metrics: Metrics) -> Table | None:
    """The model and its combination with the best others, side by side; None where there is none."""
    if "combination" not in metrics:
        return None
    values = metrics["combination"]
    everyone = {"combination": values["metrics"], "model": metrics}
    weights = ", ".join(f"{name} {weight:.2g}" for name, weight in values["weights"].items())
    title = f"Combination: {weights}"
    order = "Quantiles averaged level by level, weights chosen on the validation rows"
    tests = {"model": values["tests"]["model"]}
    return compared(title, everyone, everyone, tests, "combination minus it", order)


def difference_cells(test: Mapping[str, Any]) -> list[Cell]:
    """Difference with its interval, and the test; green where the model is better, red where it is worse."""
    mark = mark_of(test)
    word = {"good": "better, ", "bad": "worse, ", "": ""}[mark]
    text = "no test" if test["p"] is None else f"{word}{p_text(test['p'])}"
    return [Cell(LOSS.estimate(test["difference"], test["low"], test["high"], "+")), Cell(text, mark)]


def mark_of(test: Mapping[str, Any]) -> str:
    """The mark of a difference from a baseline: "good" or "bad" where it is significant."""
    significant = test["p"] is not None and test["p"] < ALPHA
    return ("good" if test["difference"] < 0 else "bad") if significant else ""


def gain_cell(test: Mapping[str, Any], loss: float) -> Cell:
    """A forecast's gain in percent of a baseline's loss, with 95 % interval and p.

    Args:
      test: Diebold and Mariano's test of the forecast minus the baseline.
      loss: the baseline's loss.
    """
    shares = [relative(test[name], loss) for name in ("low", "difference", "high")]
    high, gain, low = (None if value is None else 0 - value for value in shares)
    p = p_text(test["p"]) if test["p"] is not None else ""
    return Cell(f"{GAIN.estimate(gain, low, high, '+')} {p}".rstrip(), mark_of(test))


def against_runs(differences: Mapping[str, tuple[float, Difference]]) -> Table:
    """Other runs of the same call, on the same days.

    Args:
      differences: by name of a run, its pinball loss, and this run minus it.
    """
    rows = [
        [Cell(name), Cell(LOSS.number(pinball)), *difference_cells(difference._asdict())]
        for name, (pinball, difference) in differences.items()
    ]
    head = ("", "pinball, 1e-3", "this run minus it [95 %]", "DM test")
    return Table("Beside the other runs", head, rows, "The same test dates; model: this run.")


def by_regime(division: str, regimes: Mapping[str, Metrics]) -> Table:
    """Pinball loss of the model in each regime, and its difference from that of each forecast beside it.

    Args:
      division: "volatility", or the column whose values divide the windows.
      regimes: the division's part of metrics.json.
    """
    names = list(dict.fromkeys(name for values in regimes.values() for name in beside(values)))
    rows = [
        [Cell("windows"), *(Cell(f"{values['windows']:,}") for values in regimes.values())],
        [Cell("pinball, 1e-3"), *(Cell(LOSS.number(values.get("pinball"))) for values in regimes.values())],
    ]
    for name in names:
        row = [Cell(f"minus {name}, %")]
        for values in regimes.values():
            loss = beside(values).get(name, {}).get("pinball")
            difference = None if loss is None else relative(values["pinball"] - loss, loss)
            row.append(Cell(GAIN.number(difference, "+")))
        rows.append(row)
    note = (
        "Calm, middle, stormy: the third of the train windows in which the moving volatility before the"
        " window lies; a quiet test period has few stormy dates."
        if division == "volatility"
        else "The thresholds are those of the run's attention, of the last value known before the window."
    )
    if names:
        note += " Below zero the model is better; without a test: the windows of a regime are few."
    return Table(f"By {division}", ("", *regimes), rows, note)


def tails(tests: Mapping[str, Any]) -> Table | None:
    """Tests of the outer quantiles as value at risk; None of several series."""
    if "value_at_risk" not in tests:
        return None
    rows = []
    for level, values in tests["value_at_risk"].items():
        row = [Cell(level), Cell(f"{values['violations']}"), Cell(f"{values['expected']:.1f}")]
        for p in (values[name] for name in ("kupiec_p", "independence_p", "coverage_p")):
            row.append(Cell(p_text(p), "bad" if p is not None and p < ALPHA else ""))
        rows.append(row)
    head = ("quantile", "dates outside", "expected", "their number (Kupiec)", "their independence", "both")
    note = "Christoffersen's tests beside Kupiec's. A small p: the tail is wrong. -: too few dates or cases."
    return Table("Outer quantiles as value at risk", head, rows, note)


def modes(metrics: Metrics) -> Table:
    """The share of time in each quality mode beside that of random forecasts."""
    shares = metrics["quality"], metrics["quality_random"]
    rows = [
        [Cell(mode.replace("_", " ").lower()), *(Cell(share(part[mode], 0)) for part in shares)]
        for mode in MODES
    ]
    note = (
        "Chance: random normal forecasts with the same mean and sigma. Only the share beyond chance"
        " is the model's merit. Thresholds: evaluation in the config."
    )
    return Table("Share of the time in each mode", ("mode", "model", "chance"), rows, note)


def earnings(trading: Metrics) -> Table:
    """Sharpe ratios of positions that the median leads to, beside buy and hold."""
    rows = []
    for name in POSITIONS:
        values = trading[name]
        ratio = RATIO.estimate(values["sharpe"], values["low"], values["high"])
        beyond = ""
        if name != REFERENCE:
            beyond = RATIO.estimate(values["excess"], values["excess_low"], values["excess_high"], "+")
        rows.append([*map(Cell, (name.replace("_", " "), ratio, beyond, share(values["turnover"])))])
    head = ("position", "Sharpe ratio [95 %]", "minus buy and hold [95 %]", "turnover a period")
    note = (
        f"A year, after a cost of {share(trading['cost'], 2)} of each trade; no riskless rate, no"
        " slippage: it shows the worth of a forecast, not of a strategy. Block-bootstrap intervals."
    )
    return Table("Sharpe ratios of following the median", head, rows, note)


def by_series(table: pd.DataFrame, foreign: Collection[str] = ()) -> Table:
    """Pinball losses of each series in the test rows, the lowest marked.

    Args:
      table: by_series.csv.
      foreign: names of the foreign forecasts.
    """
    names = [name for name in table if name not in ("series", "split", "windows")]
    rows = []
    for _, row in table[table["split"] == "test"].iterrows():
        lowest = row[names].min()
        cells = [Cell(LOSS.number(row[name]), "best" if row[name] == lowest else "") for name in names]
        rows.append([Cell(str(row["series"])), *cells])
    return Table(
        "By series",
        ("series", *shown(dict.fromkeys(names), foreign)),
        rows,
        "Pinball loss of the test rows, 1e-3.",
    )


def left_out(notes: Mapping[str, Any]) -> list[str]:
    """The baselines without a forecast, and why; vix_scaled's column; the sources of foreign forecasts."""
    sentences = [f"{name} is left out: {reason}." for name, reason in notes["left_out"].items()]
    column = notes["volatility_column"]
    if column is not None and "vix_scaled" not in notes["left_out"]:
        sentences.append(f"vix_scaled scales by {column}.")
    foreign = notes.get("foreign", {})
    sentences += [f"{name} is a foreign forecast, no baseline: {source}." for name, source in foreign.items()]
    return sentences


def described() -> list[tuple[str, str]]:
    """The baselines and the first lines of their docstrings."""
    return [
        (name, baseline.__doc__.strip().splitlines()[0]) for name, baseline in (BASELINES | POOLED).items()
    ]


def independent(test: Predictions) -> int:
    """The number of targets that are independent: all of one series and step, else none."""
    several = test.target.shape[1] > 1 or len(set(test.series)) > 1
    return 0 if several else len(test.target)
