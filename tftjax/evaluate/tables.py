"""Tables of what metrics.json holds, each made once: for a page, for Markdown and for the terminal."""

import io
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from tftjax.evaluate.baselines import BASELINES
from tftjax.evaluate.files import Predictions
from tftjax.evaluate.formatting import GAIN, LOSS, RATIO, Format, Metrics, p_text, relative, share
from tftjax.evaluate.metrics import Column, columns, flatten
from tftjax.evaluate.quality import MODES
from tftjax.evaluate.significance import ALPHA, Difference
from tftjax.evaluate.trading import POSITIONS, REFERENCE

WIDTH = 80  # of a terminal


class Cell(NamedTuple):
    """A table's cell: `mark` is "best", "good", "bad", "model" or "prose"; `link` a relative address."""

    text: str
    mark: str = ""
    link: str = ""


class Table(NamedTuple):
    """A table for page, Markdown and terminal; the first cell of a row is its heading.

    Attributes:
      note: how to read it.
    """

    title: str
    head: tuple[str, ...]
    rows: list[list[Cell]]
    note: str = ""

    def markdown(self) -> str:
        """The table without its title; the best of a column is bold."""
        marked = [[f"**{c.text}**" if c.mark == "best" else c.text for c in row] for row in self.rows]
        lines = [" | ".join(text.replace("|", r"\|") for text in row) for row in (self.head, *marked)]
        lines = [f"| {line} |" for line in lines]
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
        return "\n\n".join([*parts, *([textwrap.fill(self.note, WIDTH)] if self.note else [])])


def _blocks(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[tuple[list[int], list[int]]]:
    """Which columns stand beside each other in WIDTH, the first of all in every block, and their widths."""
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
        """The same in lines of WIDTH."""
        parts = [self.title] if self.title else []
        for part in self.parts:
            is_table = isinstance(part, Table)
            parts.append(f"{part.title}\n{part.terminal()}" if is_table else textwrap.fill(part, WIDTH))
        return "\n\n".join(parts)


def metric_cells(
    values: Mapping[str, Any],
    shown: Sequence[Column],
    best: Mapping[str, float],
    errors: Mapping[str, Any] | None = None,
) -> list[Cell]:
    """A row's cells in columns of metrics.

    Args:
      values: by flat name of a metric; what is missing is a dash.
      best: what `best_of` returns; empty marks none.
      errors: standard errors of those that are means.
    """
    cells = []
    for column in shown:
        value, distance = values.get(column.metric), column.distance(values.get(column.metric))
        text = column.format.mean(value, (errors or {}).get(column.metric))
        cells.append(Cell(text, "best" if distance <= best.get(column.metric, -1) else ""))
    return cells


def best_of(everyone: Iterable[Mapping[str, Any]], shown: Sequence[Column]) -> dict[str, float]:
    """By metric, how far the best of several is from what is best; without what is no merit."""
    least = {c.metric: min(c.distance(values.get(c.metric)) for values in everyone) for c in shown}
    return {name: distance for name, distance in least.items() if distance < float("inf")}


def all_columns(everyone: Iterable[Mapping[str, Any]]) -> list[Column]:
    """The columns that some of several rows have a number for, given by flat name."""
    return columns(name for values in everyone for name in values)


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
    flat = {name: flatten(values) for name, values in everyone.items()}
    shown = all_columns(flat.values())
    best = best_of(list(flat.values()), shown)
    rows = []
    for name, values in flat.items():
        pinball, *others = metric_cells(values, shown, best)
        tested = tested_cells(tests[name]) if name in tests else [Cell(""), Cell("")]
        rows.append([Cell(name, "model" if name in models else ""), pinball, *tested, *others])
    titles = [column.title for column in shown]
    head = ("", titles[0], f"{difference} [95 %]", "DM test", *titles[1:])
    base = next(iter(everyone.values())).get("directional_base_rate")
    note = (
        f"{order}; the best of a column is marked. DM: two-sided Diebold-Mariano"
        " test of the daily difference, errors robust to autocorrelation. The commoner sign every day would"
        f" be right on {share(base)}. -: undefined, as the forecast is constant or there are too few days."
    )
    return Table(title, head, rows, note)


def tested_cells(test: Mapping[str, Any]) -> list[Cell]:
    """Difference with its interval, and the test; green where the model is better, red where it is worse."""
    mark = mark_of(test)
    word = {"good": "better, ", "bad": "worse, ", "": ""}[mark]
    said = "no test" if test["p"] is None else f"{word}{p_text(test['p'])}"
    return [Cell(LOSS.estimate(test["difference"], test["low"], test["high"], "+")), Cell(said, mark)]


def mark_of(test: Mapping[str, Any]) -> str:
    """The mark of a difference from a baseline: "good" or "bad" where it is significant."""
    significant = test["p"] is not None and test["p"] < ALPHA
    return ("good" if test["difference"] < 0 else "bad") if significant else ""


def gain_cell(test: Mapping[str, Any], loss: float) -> Cell:
    """By how many percent of a baseline's loss a forecast's is below it, with 95 % interval and p.

    Args:
      test: Diebold and Mariano's, of the forecast minus the baseline.
      loss: the baseline's.
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
        [Cell(name), Cell(LOSS.number(pinball)), *tested_cells(found._asdict())]
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
        row = [Cell(label), Cell(f"{values['windows']:,}"), Cell(LOSS.number(values.get("pinball")))]
        for name in names:
            theirs = values.get("baselines", {}).get(name, {}).get("pinball")
            found = None if theirs is None else relative(values["pinball"] - theirs, theirs)
            row.append(Cell(GAIN.number(found, "+")))
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
            Cell(Format(digits=1).number(values["expected"])),
            *(_p_cell(values[name]) for name in ("kupiec_p", "independence_p", "coverage_p")),
        ]
        for level, values in found.items()
    ]
    head = ("quantile", "days outside", "expected", "their number (Kupiec)", "their independence", "both")
    note = "Christoffersen's tests beside Kupiec's. A small p: the tail is wrong. -: too few days or cases."
    return Table("Outer quantiles as value at risk", head, rows, note)


def _p_cell(p: float | None) -> Cell:
    return Cell(p_text(p), "bad" if p is not None and p < ALPHA else "")


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
        ratio = RATIO.estimate(values["sharpe"], values["low"], values["high"])
        beyond = ""
        if name != REFERENCE:
            beyond = RATIO.estimate(values["excess"], values["excess_low"], values["excess_high"], "+")
        rows.append([*map(Cell, (name.replace("_", " "), ratio, beyond, share(values["turnover"])))])
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
        cells = [Cell(LOSS.number(row[name]), "best" if row[name] == lowest else "") for name in names]
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
