"""Progress of a search: a line a trial that has ended, and how many there are."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tftjax.train.loop import Round
from tftjax.train.progress import VISIBLE_ROWS


class SearchView:
    """A search in training: see `train.progress`.

    Attributes:
      num_trials: trials that are asked for.
      news: lines on trials that have ended since the last round.
      seen: lines of before.
    """

    def __init__(self, num_trials: int):
        self.num_trials = num_trials
        self.news: list[str] = []
        self.seen: list[str] = []

    def lines(self, round_: Round) -> list[str]:
        """A line a trial that has ended."""
        news, self.news = self.news, []
        self.seen += news
        return news

    def warnings(self, round_: Round) -> list[str]:
        """Nothing: they stand in each member's metrics.jsonl."""
        return []

    def last_lines(self) -> list[str]:
        """Nothing: the results follow."""
        return []

    def table(self, round_: Round | None) -> Table:
        """The last trials, under the number of members in training."""
        if round_:
            self.lines(round_)
        table = Table(box=SIMPLE_HEAD)
        state = f"{round_.live} members in training" if round_ else "compiling"
        table.add_column(f"{len(self.seen)} trials of {self.num_trials} have ended here, {state}")
        for line in self.seen[-VISIBLE_ROWS:]:
            table.add_row(line)
        return table
