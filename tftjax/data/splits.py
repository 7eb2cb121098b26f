"""Train, validation and test rows in time order, and the windows that forecast them."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int32

from tftjax.config.data import DataConfig
from tftjax.data.calendar import PERIODS
from tftjax.data.panel import Panel, blocks, select_rows
from tftjax.errors import UserError


class Splits(NamedTuple):
    """Ranges of target rows of one series, in time order, with the purged rows between them.

    Of a final fit (`data.final_fit`) only the train rows are not empty.
    """

    train: range
    val: range
    test: range


class Block(NamedTuple):
    """A series of a panel, its rows counted over the whole panel.

    Attributes:
      name: its name.
      rows: its rows in the panel.
      splits: ranges of its target rows.
      held_out: target rows inside the train rows that validate (`data.val_blocks`).
      purge: rows before and after these that are left out.
      history: of a series of `data.unseen`, which has only test rows, those that would be its train rows;
        None of a series that is trained on.
    """

    name: str
    rows: range
    splits: Splits
    held_out: tuple[range, ...] = ()
    purge: int = 0
    history: range | None = None

    @property
    def is_unseen(self) -> bool:
        """Whether training never sees the series."""
        return self.history is not None

    @property
    def earlier(self) -> range:
        """The rows that baselines are estimated on, of an unseen series too."""
        return self.splits.train if self.history is None else self.history

    def stretches(self, split: str) -> tuple[range, ...]:
        """The target rows of a split's windows, a range a stretch.

        >>> splits = Splits(range(0, 10), range(11, 13), range(14, 16))
        >>> Block("", range(16), splits, held_out=(range(4, 6),), purge=1).stretches("train")
        (range(0, 3), range(7, 10))
        """
        rows = getattr(self.splits, split)
        if split == "val":
            return *self.held_out, rows
        if split == "test":
            return (rows,)
        first = (rows.start, *(part.stop + self.purge for part in self.held_out))
        stop = (*(part.start - self.purge for part in self.held_out), rows.stop)
        return tuple(itertools.starmap(range, zip(first, stop, strict=True)))


def make_blocks(
    panel: Panel, config: DataConfig, encoder_length: int, prediction_length: int
) -> tuple[Panel, tuple[Block, ...]]:
    """Cuts every series of a panel into splits, all at the same dates, but those that cannot be trained on.

    Left out are series without a window in the train rows, and those whose target never moves there: they
    give no scaler, and baselines no forecast.

    Returns:
      The panel of the series that stay, with a message that names the others; and its blocks.

    Raises:
      UserError: a split that the config asks for would hold no window of any of them.
    """
    lengths = encoder_length, prediction_length
    _check_unseen(config, [name for name, _ in blocks(panel.frame, panel.id_column)])
    if panel.id_column is None:
        return panel, (single_block(panel.frame.index, config, *lengths),)
    keys = _cut_keys(panel.frame.index, panel.about.get("frequency"))
    calendar = keys.unique().sort_values()
    target = panel.frame[panel.target].to_numpy()
    kept, short, still = [], [], []
    for name, rows in blocks(panel.frame, panel.id_column):
        block = _moved(_cut(keys[rows.start : rows.stop], config, prediction_length, calendar), rows.start)
        block, train = block._replace(name=name), block.splits.train
        if not len(starts_of([block], "train", *lengths)):
            short.append(name)
        elif np.ptp(target[train.start : train.stop]) == 0:
            still.append(name)
        else:
            kept.append(_held_out(block, config))
    if not kept:
        raise UserError(
            f"data.split: found no train window of {encoder_length} encoder rows and {prediction_length}"
            f" target rows in any of {len(short) + len(still)} series, or only targets that never move. Use"
            " more rows, other splits or shorter windows."
        )
    if config.unseen and set(config.unseen) <= {*short, *still}:
        raise UserError(
            f"data.unseen: found too few rows before the test rows in {', '.join(config.unseen)}, expected a"
            f" train window of {encoder_length} encoder rows and {prediction_length} target rows in one of"
            " them, whose target moves: baselines are fitted there. Name other series, or use later splits."
        )
    for split in _asked_for(config)[0 if config.unseen else 1 :]:
        sizes = [_needed(block, split, *lengths) for block in kept]
        if not any(has >= needed for has, needed in sizes):
            has, needed = max(sizes, key=lambda pair: pair[0] - pair[1])
            raise _no_window(split, has, needed, f"at most in each of {len(kept)} series", *lengths)
    messages = tuple(
        f"left out {len(names)} of {len(kept) + len(short) + len(still)} series, {why}: {', '.join(names)}"
        for names, why in (
            (short, f"which have no train window of {encoder_length} + {prediction_length} rows"),
            (still, "whose target never moves in the train rows"),
        )
        if names
    )
    return _only(panel, kept, messages) if messages else (panel, tuple(kept))


def _check_unseen(config: DataConfig, names: Sequence[str]) -> None:
    """Refuses unseen series that are none of the panel's, and a panel of nothing else."""
    unknown = [name for name in config.unseen if name not in names]
    if unknown:
        raise UserError(
            f"data.unseen: found {unknown[0]!r}, expected names of series of the data"
            f" ({', '.join(names[:5]) if any(names) else 'it has no data.columns.id'}). Correct it."
        )
    if config.unseen and not set(names) - set(config.unseen):
        raise UserError(
            "data.unseen: found all series of the data, expected some to train on. Take some out."
        )


def _held_out(block: Block, config: DataConfig) -> Block:
    """A series where some are unseen: these have the test rows alone, the others all but those."""
    if not config.unseen or config.final_fit:
        return block
    train, val, test = block.splits
    if block.name in config.unseen:
        return block._replace(splits=Splits(train[:0], val[:0], test), held_out=(), history=train)
    return block._replace(splits=Splits(train, val, test[:0]))


def seen_only(panel: Panel, blocks: Sequence[Block]) -> tuple[Panel, tuple[Block, ...]]:
    """The series that are trained on, with their blocks counted over them."""
    kept = [block for block in blocks if not block.is_unseen]
    return (panel, tuple(blocks)) if len(kept) == len(blocks) else _only(panel, kept)


def _moved(block: Block, offset: int) -> Block:
    """A block of rows that are counted from another row."""

    def moved(rows: range) -> range:
        return range(rows.start + offset, rows.stop + offset)

    splits, held_out = Splits(*map(moved, block.splits)), tuple(map(moved, block.held_out))
    history = None if block.history is None else moved(block.history)
    return block._replace(rows=moved(block.rows), splits=splits, held_out=held_out, history=history)


def _only(
    panel: Panel, blocks: list[Block], messages: tuple[str, ...] = ()
) -> tuple[Panel, tuple[Block, ...]]:
    """The panel of some blocks alone, and these blocks counted over it."""
    moved, position = [], 0
    for block in blocks:
        moved.append(_moved(block, position - block.rows.start))
        position += len(block.rows)
    rows = np.concatenate([np.arange(block.rows.start, block.rows.stop) for block in blocks])
    return select_rows(panel, rows, messages), tuple(moved)


def _cut_keys(index: pd.DatetimeIndex, frequency: str | None) -> pd.DatetimeIndex:
    """The dates that rows are cut by: their own, or the first days of their weeks, months or quarters.

    A week's last trading day differs between markets, and one week must not be in two splits.
    """
    return index if frequency not in PERIODS else index.to_period(PERIODS[frequency]).start_time


def single_block(
    index: pd.DatetimeIndex, config: DataConfig, encoder_length: int, prediction_length: int
) -> Block:
    """Cuts the rows of a single series into splits by fractions or by dates, as the config says.

    With P target rows a window, a gap of P rows (`data.purge`) keeps the target rows of two splits' windows
    P rows apart: no stretch of P days is a target of both.

    Raises:
      UserError: a split would hold no window.
    """
    block = _cut(index, config, prediction_length, index)
    for split in _asked_for(config):
        has, needed = _needed(block, split, encoder_length, prediction_length)
        if has < needed:
            raise _no_window(split, has, needed, f"of {len(index)} rows", encoder_length, prediction_length)
    return block


def _asked_for(config: DataConfig) -> tuple[str, ...]:
    """The splits that must have a window, train first."""
    return Splits._fields[:1] if config.final_fit else Splits._fields


def _cut(
    index: pd.DatetimeIndex, config: DataConfig, prediction_length: int, calendar: pd.DatetimeIndex
) -> Block:
    """One series, from row 0; fractions and blocks are of the calendar, the dates of all series."""
    rows, dates = range(len(index)), config.split_dates

    def row_of(date) -> int:
        return int(index.searchsorted(pd.Timestamp(date)))

    def row_at(place: int) -> int:
        return row_of(calendar[place]) if place < len(calendar) else len(index)

    start = 0 if dates is None or dates.train is None else row_of(dates.train)
    if config.final_fit:
        empty = range(len(index), len(index))
        return Block("", rows, Splits(range(start, len(index)), empty, empty))
    if dates is None:
        end, purge = len(index), config.purge or 0
        # As floats 0.7 + 0.2 is below 0.9: without the nudge it would be 89 of 100 rows.
        shares = config.split[0], config.split[0] + config.split[1]
        bounds = [math.floor(len(calendar) * share + 1e-9) for share in shares]
        val, test = map(row_at, bounds)
    else:
        end = len(index) if dates.end is None else row_of(dates.end)
        purge = prediction_length if config.purge is None else config.purge
        bounds = [int(calendar.searchsorted(pd.Timestamp(date))) for date in (dates.val, dates.test)]
        val, test = row_of(dates.val), row_of(dates.test)

    def validating(first: int, stop: int) -> range:
        return range(first, max(first, stop - purge))

    if config.train_on_val:
        return Block("", rows, Splits(validating(start, test), validating(val, test), range(test, end)))
    begin = 0 if start == 0 else int(calendar.searchsorted(pd.Timestamp(dates.train)))
    in_dates = _val_blocks(begin, *bounds, config.val_blocks)
    *held_out, (val, _) = [tuple(map(row_at, block)) for block in in_dates]
    train, test_rows = range(start, max(start, val - purge)), range(test, end)
    inside = tuple(validating(max(first, start), stop) for first, stop in held_out if stop > start)
    return Block("", rows, Splits(train, validating(val, test), test_rows), inside, purge)


def _val_blocks(begin: int, first: int, stop: int, count: int) -> list[tuple[int, int]]:
    """First and stop of the blocks that validation is divided into: the ends of stretches of its length.

    >>> _val_blocks(0, 20, 26, 3)
    [(12, 14), (18, 20), (24, 26)]

    Raises:
      UserError: more blocks than rows, or more than there are stretches.
    """
    length = stop - first
    size, most = length // count, (stop - begin) // max(length, 1)
    if count > 1 and (size == 0 or count > most):
        raise UserError(
            f"data.val_blocks: found {count}, expected at most {min(length, most)}: each is the end of a"
            f" stretch as long as validation ({length} dates), of {stop - begin} before the test rows."
        )
    return [(end - size, end) for end in range(stop - (count - 1) * length, stop + 1, max(length, 1))]


def _needed(block: Block, split: str, encoder_length: int, prediction_length: int) -> tuple[int, int]:
    """Number of rows of a split of a series, and of rows that one window takes."""
    rows = getattr(block.splits, split)
    return len(rows), prediction_length + max(encoder_length - (rows.start - block.rows.start), 0)


def _no_window(
    split: str, has: int, needed: int, among: str, encoder_length: int, prediction_length: int
) -> UserError:
    return UserError(
        f"data.split: found {has} {split} rows {among}, expected at least {needed} for one window of"
        f" {encoder_length} encoder rows and {prediction_length} target rows. Use more rows (data.start,"
        " data.end), a larger fraction or other dates, fewer data.val_blocks, a smaller"
        " data.purge, or shorter windows"
        " (model.encoder_length, model.prediction_length)."
    )


def starts_of(
    blocks: Sequence[Block], split: str, encoder_length: int, prediction_length: int
) -> Int32[np.ndarray, "W"]:
    """The starts of all windows of a split, series after series; see `window_starts`."""
    return np.concatenate(
        [
            window_starts(rows, block.rows, encoder_length, prediction_length)
            for block in blocks
            for rows in block.stretches(split)
        ]
    )


def window_starts(
    targets: range, rows: range, encoder_length: int, prediction_length: int
) -> Int32[np.ndarray, "W"]:
    """The starts s of all windows whose target rows s+E .. s+E+P-1 lie inside `targets`.

    Encoder rows s .. s+E-1 may reach back into earlier splits; none lies outside the series' `rows`.

    >>> window_starts(range(10, 13), range(0, 20), encoder_length=4, prediction_length=2).tolist()
    [6, 7]
    """
    first = max(targets.start - encoder_length, rows.start)
    stop = min(targets.stop, rows.stop) - encoder_length - prediction_length + 1
    return np.arange(first, max(first, stop), dtype=np.int32)
