"""What a person sees while a run trains: a live table on a terminal, plain lines elsewhere."""

import sys
import time

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tftjax.train.losses import PENALTIES

COLUMNS = (
    "epoch",
    "loss",
    "pinball",
    "mean pen.",
    "std pen.",
    "other pen.",
    "val loss",
    "best",
    "sigma",
    "positive",
    "windows/s",
)
OTHER_PENALTIES = [f"{name}_penalty" for name in PENALTIES if name not in ("mean", "std")]
VISIBLE_EPOCHS = 12


def epoch_cells(record: dict) -> tuple[str, ...]:
    """Formats a line of metrics.jsonl for a person: losses in 1e-3, sigma in basis points."""
    others = sum(record[name] for name in OTHER_PENALTIES)
    return (
        str(record["epoch"]),
        f"{record['loss'] * 1e3:.4f}",
        f"{record['quantile_loss'] * 1e3:.4f}",
        f"{record['mean_penalty'] * 1e3:.5f}",
        f"{record['std_penalty'] * 1e3:.5f}",
        f"{others * 1e3:.5f}",
        f"{record['val/loss'] * 1e3:.4f}",
        "*" if record["improved"] else "",
        f"{record['val/sigma'] * 1e4:.1f} bp",
        f"{record['val/share_positive']:.0%}",
        f"{record['windows_per_s']:,.0f}",
    )


def new_warnings(record: dict, before: dict[str, str]) -> list[str]:
    """The warnings of an epoch, those left out that the epoch before had too."""
    return [
        f"epoch {record['epoch']}: {words}"
        for name, words in record["warnings"].items()
        if name not in before
    ]


class PlainProgress:
    """One line an epoch on standard output: for logs and pipes."""

    def __init__(self, name: str, max_epochs: int, finished: int):
        self.max_epochs = max_epochs
        self.warnings: dict[str, str] = {}
        self.last = time.monotonic()

    def __enter__(self) -> "PlainProgress":
        return self

    def __exit__(self, *_) -> None:
        sys.stdout.flush()

    def update(self, record: dict) -> None:
        """Shows an epoch."""
        epoch, loss, pinball, mean, std, others, val, best, sigma, positive, rate = epoch_cells(record)
        now = time.monotonic()
        # By the last epoch alone: the first one waits for the compilation.
        left = (now - self.last) * (self.max_epochs - record["epoch"])
        self.last = now
        print(
            f"epoch {epoch}/{self.max_epochs}  loss {loss} = pinball {pinball} + mean {mean} + std {std} "
            f"+ others {others}  val {val}{best}  sigma {sigma}  positive {positive}  "
            f"{rate} windows/s  at most {left:.0f} s left",
            flush=True,
        )
        for warning in new_warnings(record, self.warnings):
            print(f"warning: {warning}", flush=True)
        self.warnings = record["warnings"]


class LiveProgress:
    """A table of the last epochs and a bar, redrawn in place."""

    def __init__(self, name: str, max_epochs: int, finished: int):
        self.rows: list[tuple[str, ...]] = []
        self.warnings: dict[str, str] = {}
        self.name = name
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("at most"),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        self.task = self.bar.add_task("compiling", total=max_epochs, completed=finished)
        self.live = Live(self._draw(), console=Console(), refresh_per_second=4)

    def _draw(self) -> Table:
        layout = Table.grid()
        table = Table(title=f"{self.name} (losses in 1e-3; sigma, positive: of validation)")
        for column in COLUMNS:
            table.add_column(column, justify="right")
        for row in self.rows:
            table.add_row(*row)
        layout.add_row(table)
        layout.add_row(self.bar)
        return layout

    def __enter__(self) -> "LiveProgress":
        self.live.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        self.live.__exit__(*exception)

    def update(self, record: dict) -> None:
        """Shows an epoch; warnings stay above the table."""
        for warning in new_warnings(record, self.warnings):
            self.live.console.print(f"warning: {warning}", markup=False, highlight=False)
        self.warnings = record["warnings"]
        self.rows = [*self.rows, epoch_cells(record)][-VISIBLE_EPOCHS:]
        self.bar.update(self.task, completed=record["epoch"], description="training")
        self.live.update(self._draw())


class NoProgress:
    """Shows nothing."""

    def __init__(self, *_):
        pass

    def __enter__(self) -> "NoProgress":
        return self

    def __exit__(self, *_) -> None:
        pass

    def update(self, _) -> None:
        """Ignores an epoch."""


def choose(quiet: bool, live: type = LiveProgress, plain: type = PlainProgress) -> type:
    """The display for this process: none, live on a terminal, lines elsewhere."""
    if quiet:
        return NoProgress
    return live if sys.stdout.isatty() else plain
