"""A panel made ready for a config: split, encoded, cut into windows."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from tftjax.config.loading import Config
from tftjax.data.encoding import Encoding, fit_encoding, with_target_scale
from tftjax.data.panel import Panel
from tftjax.data.splits import Block, Splits, make_blocks, seen_only, starts_of
from tftjax.data.windows import Series, fit_classical, make_series, recency_weights, window_weights

# Settings of data that `prepare` uses; they change nothing in what `load_panel` reads.
AFTER_LOADING = (
    "split",
    "split_dates",
    "purge",
    "val_blocks",
    "train_on_val",
    "unseen",
    "scaling",
    "volatility",
    "target_scale",
    "scale_features",
    "final_fit",
)


@dataclass(frozen=True)
class Data:
    """A panel made ready for a config: split, encoded, cut into windows.

    Attributes:
      whole: the panel as it was loaded; a run stores it, so that it is cut at the same dates again.
      panel: the series that can be used, with the target's scale as a column if there is one.
      encoding: scalers and categories.
      series: `panel` encoded, as arrays.
      blocks: series of `panel` with their target rows of train, val and test.
      starts: first rows of the windows, series after series, by split; before the series' own, of a window
        that lacks rows (`model.min_encoder_length`).
    """

    whole: Panel
    panel: Panel
    encoding: Encoding
    series: Series
    blocks: tuple[Block, ...]
    starts: dict[str, Int[np.ndarray, " W"]]


def target_days(panel: Panel, blocks: Sequence[Block], split: str) -> list[datetime.date]:
    """The first and last day of a split's target rows in each series that has any."""
    parts = [getattr(block.splits, split) for block in blocks]
    return [panel.frame.index[row].date() for part in parts if part for row in (part[0], part[-1])]


def train_targets(panel: Panel, blocks: Sequence[Block]) -> dict[str, Float[np.ndarray, " M"]]:
    """Returns in the train rows as decimals, by series that is trained on."""
    target = panel.frame[panel.target].to_numpy(np.float64)
    rows = ((block.name, block.splits.train) for block in blocks if not block.is_unseen)
    return {name: target[train.start : train.stop] for name, train in rows}


def fit_to_train_rows(panel: Panel, blocks: Sequence[Block], config: Config) -> Encoding:
    """The encoding of a config, fitted on the train rows alone; see `fit_encoding`.

    Static categories that training always hides (`train.static_dropout` 1) have no code: known or not, a
    series is forecast as one that was not in training.
    """
    panel, blocks = seen_only(panel, blocks)
    encoding = fit_encoding(
        panel,
        [block.splits.train for block in blocks],
        config.data.target_scale,
        config.data.scaling,
        config.model.attention,
        config.data.volatility,
        config.data.scale_features,
    )
    hidden = panel.static_categorical if config.train.static_dropout == 1 else ()
    return encoding._replace(categories=encoding.categories | {name: [] for name in hidden})


def prepare(panel: Panel, config: Config, encoding: Encoding | None = None) -> Data:
    """Splits, encodes and windows a panel, without the series that are too short for a train window.

    Args:
      encoding: the encoding of a checkpoint; None fits one on the train rows.

    Raises:
      UserError: too few rows for a window, or columns that do not fit the encoding.
    """
    lengths = config.model.encoder_length, config.model.prediction_length
    whole = panel
    fewest, lacking = config.model.fewest_rows, config.model.encoder_length - config.model.fewest_rows
    panel, blocks = make_blocks(whole, config.data, fewest, lengths[1])
    if encoding is None:
        encoding = fit_to_train_rows(panel, blocks, config)
    panel = with_target_scale(panel, encoding)
    starts = {split: starts_of(blocks, split, fewest, lengths[1]) - lacking for split in Splits._fields}
    series = make_series(panel, encoding, short_windows=lacking > 0)
    if config.model.corrects and series.classical is None:
        classical = fit_classical(series, starts["train"], lengths, config.model.quantiles)
        parts = {name: part.tolist() for name, part in classical._asdict().items()}
        encoding, series = encoding._replace(classical=parts), series._replace(classical=classical)
    if config.train.half_life is not None:
        first_targets = starts["train"] + lengths[0]
        weight = recency_weights(panel.frame.index, first_targets, config.train.half_life)
        series = series._replace(weight=weight)
    if panel.weight is not None:
        weight = window_weights(panel, starts["train"] + lengths[0], lengths[1], series.weight)
        series = series._replace(weight=weight)
    return Data(whole, panel, encoding, series, blocks, starts)


def cardinalities(panel: Panel, encoding: Encoding) -> tuple[tuple[int, ...], ...]:
    """Number of codes of each observed, known and static categorical column, the unseen slot included."""
    return tuple(
        tuple(len(encoding.categories[name]) + 1 for name in names)
        for names in (panel.observed_categorical, panel.known_categorical, panel.static_categorical)
    )
