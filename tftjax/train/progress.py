"""Progress of a run or a sweep in training: a live table on a terminal, plain lines elsewhere.

A view turns a `Round` of the loop into lines and into a table; a display puts one of them on the screen.
"""

import contextlib
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from tftjax.config.loading import Config
from tftjax.storage.runs import Ended
from tftjax.train.loop import Round
from tftjax.train.losses import PENALTIES

Show = Callable[[Round], None]

VISIBLE_ROWS = 12
PENALTIES_WIDTH = 18  # of all penalties' columns, for 80 in the table; wider ones are added up in one


def weighted_penalties(config: Config) -> list[str]:
    """The penalties whose weight is on, those that were handed in among them."""
    loss, weights = config.loss, config.loss.own_weights
    names = [name for name in PENALTIES if getattr(loss, f"{name}_weight")]
    names += [name for name in config.functions.penalties if weights.get(name, 1.0)]
    routed = config.model.attention.regime
    return names + ["balance"] * (routed.by == "router" and routed.balance_weight > 0)


def loss_text(loss: float, digits: int = 4) -> str:
    """A loss in 1e-3, in at most eight letters below 1.

    >>> loss_text(0.0021), loss_text(0.00006, 5), loss_text(12.5)
    ('2.1000', '0.06000', '12500')
    """
    return f"{loss * 1e3:.{digits}f}" if abs(loss) < 10 ** (8 - 2 * digits) else f"{loss * 1e3:.5g}"


def duration(seconds: float) -> str:
    """A span of time for reading.

    >>> duration(12.4), duration(200.0), duration(7300.0)
    ('12 s', '3 min', '2 h 2 min')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def seconds_left(round_: Round) -> float:
    """Seconds that the epochs left take at most, at the last round's speed."""
    return round_.epochs_left * round_.seconds / max(1, len(round_.records))


@runtime_checkable
class View(Protocol):
    """Texts and table of training; `warnings` has those that the round before did not have."""

    def lines(self, round_: Round) -> list[str]: ...

    def warnings(self, round_: Round) -> list[str]: ...

    def last_lines(self) -> list[str]: ...

    def table(self, round_: Round | None) -> Table: ...


class RunView:
    """A run: a line an epoch, or a table of the last epochs and a bar.

    Args:
      config: the run's config; its penalties without a weight are not shown.
      finished: number of epochs that were trained before.
      best: the lowest validation loss of these.
    """

    def __init__(self, config: Config, finished: int = 0, best: float = float("inf")):
        self.name, self.max_epochs = config.name, config.train.last_epoch
        self.penalties = weighted_penalties(config)
        self.rows: list[tuple[str, ...]] = []
        self.known: dict[str, str] = {}
        self.best = best
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self.task = self.bar.add_task("compiling", total=self.max_epochs, completed=finished, left="")

    def lines(self, round_: Round) -> list[str]:
        """One line on the epoch."""
        if not round_.records:
            return []
        (record,) = round_.records.values()
        terms = [f"{name} {loss_text(record[f'{name}_penalty'], 5)}" for name in self.penalties]
        parts = [f"pinball {loss_text(record['quantile_loss'])}", *terms] if terms else []
        return [
            f"epoch {record['epoch']}/{self.max_epochs}  loss {loss_text(record['loss'])}"
            f"{' = ' if parts else ''}{' + '.join(parts)}"
            f"{_judged(record)}  {record['windows_per_s']:,.0f} windows/s"
            f"  at most {duration(seconds_left(round_))} left"
        ]

    def warnings(self, round_: Round) -> list[str]:
        """The epoch's warnings, but for those that the epoch before had too."""
        new = []
        for record in round_.records.values():
            names = [name for name in record["warnings"] if name not in self.known]
            new += [f"epoch {record['epoch']}: {record['warnings'][name]}" for name in names]
            self.known = record["warnings"]
        return new

    def last_lines(self) -> list[str]:
        """Nothing: the evaluation follows."""
        return []

    def table(self, round_: Round | None) -> Table:
        """The last epochs, and a bar with the time left."""
        for record in round_.records.values() if round_ else ():
            self.best = min(self.best, record.get("val/loss", self.best))
            self.rows = [*self.rows, self.cells(record)][-VISIBLE_ROWS:]
            left = f"at most {duration(seconds_left(round_))} left"
            self.bar.update(self.task, completed=record["epoch"], description="training", left=left)
        epochs = Table(
            title=f"{self.name}: losses in 1e-3", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
        )
        for column in self.columns():
            epochs.add_column(column, justify="right", no_wrap=True)
        for row in self.rows:
            epochs.add_row(*row)
        layout = Table.grid()
        layout.add_row(epochs)
        layout.add_row(self.bar)
        return layout

    def shown_penalties(self) -> Sequence[str]:
        """Penalties with a column each; none where their columns are too wide for the terminal."""
        widths = [max(len(name), len("0.00000")) + 2 for name in self.penalties]
        return self.penalties if sum(widths) <= PENALTIES_WIDTH else ()

    def columns(self) -> list[str]:
        """The titles of the table's columns."""
        shown = self.shown_penalties()
        terms = ["pinball", *(shown or ["penalties"])] if self.penalties else []
        return ["epoch", "loss", *terms, "validation", "best", "windows/s"]

    def cells(self, record: dict) -> tuple[str, ...]:
        """Formats a line of metrics.jsonl for a person, losses in 1e-3."""
        values = {name: record[f"{name}_penalty"] for name in self.penalties}
        shown = [values[name] for name in self.shown_penalties()] or [sum(values.values(), 0.0)]
        judged = "val/loss" in record  # nothing validates a final fit
        terms = [loss_text(record["quantile_loss"]), *(loss_text(value, 5) for value in shown)]
        return (
            str(record["epoch"]),
            loss_text(record["loss"]),
            *(terms if values else ()),
            loss_text(record["val/loss"]) + ("*" if record["improved"] else " ") if judged else "-",
            loss_text(self.best) if judged else "-",
            f"{record['windows_per_s']:,.0f}",
        )


def _judged(record: dict) -> str:
    """The result of validation in words; empty for a final fit, which has none."""
    if "val/loss" not in record:
        return ""
    return (
        f"  val {loss_text(record['val/loss'])}{'*' if record['improved'] else ''}"
        f"  sigma {record['val/sigma'] * 1e4:.1f} bp  positive {record['val/share_positive']:.0%}"
    )


class SweepView:
    """A sweep: a line a round and one a config at the end, or a table of the configs.

    Args:
      groups: the config of each member, by the member's name.
      ended: how members ended, by name; read at every round.
    """

    def __init__(self, groups: Mapping[str, str], ended: Mapping[str, Ended], num_programs: int):
        self.groups, self.ended, self.num_programs = groups, ended, num_programs
        self.program = 0
        self.best: dict[str, float] = {}

    def losses(self, config: str) -> list[float]:
        """The lowest validation loss so far of each member of a config."""
        return [loss for name, loss in self.best.items() if self.groups[name] == config]

    def lines(self, round_: Round) -> list[str]:
        """The sweep in one line; live members include those that wait for their program."""
        return ["  ".join(self.state(round_))]

    def state(self, round_: Round) -> tuple[str, str]:
        """The progress of the sweep, and the number of members that go on."""
        records = round_.records.values()
        for name, record in round_.records.items():
            self.best[name] = min(self.best.get(name, record["val/loss"]), record["val/loss"])
        over = [self.ended[name].status for name in self.groups if name in self.ended]
        diverged = over.count("diverged")
        windows = sum(record["windows_per_s"] * record["seconds"] for record in records)
        return (
            f"program {self.program}/{self.num_programs}  "
            f"epoch {max((record['epoch'] for record in records), default=0)}  "
            f"{windows / round_.seconds:,.0f} windows/s  at most {duration(seconds_left(round_))} left",
            f"{len(self.groups) - len(over)} live, {len(over) - diverged} ended, {diverged} diverged, "
            f"{sum(bool(record['warnings']) for record in records)} with warnings",
        )

    def warnings(self, round_: Round) -> list[str]:
        """Nothing: they are counted, and stand in each member's metrics.jsonl."""
        return []

    def last_lines(self) -> list[str]:
        """A line a config."""
        configs = dict.fromkeys(self.groups.values()) if self.best else ()
        return [
            f"{config}: best validation loss {_mean(self.losses(config))} (1e-3, mean of "
            f"{len(self.losses(config))} runs)"
            for config in configs
        ]

    def table(self, round_: Round | None) -> Table:
        """The configs under the sweep's state, the best first."""
        state = "\n".join(self.state(round_)) if round_ else "compiling"  # takes in the losses
        table = Table(box=SIMPLE_HEAD)
        table.add_column("config", overflow="fold")
        table.add_column("best validation loss, 1e-3", justify="right")
        table.add_column("runs", justify="right")
        by_config = {config: self.losses(config) for config in dict.fromkeys(self.groups.values())}
        ranked = sorted(by_config.items(), key=lambda item: statistics.mean(item[1] or [float("inf")]))
        for config, losses in ranked[:VISIBLE_ROWS]:
            table.add_row(config, _mean(losses), str(len(losses)))
        if len(ranked) > VISIBLE_ROWS:
            table.add_row(f"and {len(ranked) - VISIBLE_ROWS} more", "", "")
        layout = Table.grid()
        layout.add_row(state)
        layout.add_row(table)
        return layout


def _mean(losses: list[float]) -> str:
    """The mean of losses, in 1e-3."""
    return loss_text(statistics.mean(losses)) if losses else "-"


@contextlib.contextmanager
def plain(view: View) -> Iterator[Show]:
    """Lines on standard output: for logs and pipes."""

    def show(round_: Round) -> None:
        warnings = [f"warning: {warning}" for warning in view.warnings(round_)]
        for line in [*view.lines(round_), *warnings]:
            print(line, flush=True)

    try:
        yield show
    finally:
        for line in view.last_lines():
            print(line)
        sys.stdout.flush()


@contextlib.contextmanager
def live(view: View) -> Iterator[Show]:
    """A table, redrawn in place; warnings stay above it."""
    console = Console(markup=False, emoji=False)  # names are shown as they are
    with Live(view.table(None), console=console, refresh_per_second=4) as screen:

        def show(round_: Round) -> None:
            for warning in view.warnings(round_):
                screen.console.print(f"warning: {warning}", highlight=False)
            screen.update(view.table(round_))

        yield show


def display(view: View, quiet: bool) -> contextlib.AbstractContextManager[Show]:
    """Shows rounds until the context ends: not at all, live on a terminal, or in lines elsewhere."""
    if quiet:
        return contextlib.nullcontext(lambda round_: None)
    return live(view) if sys.stdout.isatty() else plain(view)
