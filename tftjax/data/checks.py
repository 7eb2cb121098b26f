"""Every check that training makes on its data, all findings at once."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tftjax.config.loading import Config
from tftjax.config.model import RegimeConfig
from tftjax.data.conditions import regime_of, regime_values
from tftjax.data.encoding import fit_encoding
from tftjax.data.feature_sets import lag_of
from tftjax.data.loading import feature_set_of, find_dataset, load_panel
from tftjax.data.panel import ROLES_FILE, Panel
from tftjax.data.prepared import Data, train_targets
from tftjax.data.raw.fred_csv import read_fred_csv
from tftjax.data.splits import Block, make_blocks, starts_of
from tftjax.data.table import check_table
from tftjax.errors import UserError

MAX_SERIES_FACTOR = 25.0  # between the standard deviations of two series: a unit makes 100
MAX_UNIT_FACTOR = 5.0  # between the train target's standard deviation and loss.target_std


def findings(config: Config) -> list[str]:
    """Mistakes in the data of a config, each a reason against training on it.

    Files are checked one by one, so that a mistake in one does not hide those in another; what needs the
    whole panel is checked once the files are sound.
    """
    problems: list[str] = []
    try:
        path = find_dataset(config.data.dataset)
        feature_set = feature_set_of(config.data)
    except UserError as error:
        return [str(error)]
    if path.is_dir() and not (path / ROLES_FILE).is_file():
        for name in feature_set.series_names():
            problems += _error_of(read_fred_csv, path / f"{name}.csv", name)
    elif path.is_file():
        date = "date" if config.data.columns is None else config.data.columns.date
        problems += check_table(path, feature_set, date)
    if problems:
        return problems
    try:
        panel = load_panel(config.data)
    except UserError as error:
        return [str(error)]
    return _check_panel(panel, config)


def _check_panel(panel: Panel, config: Config) -> list[str]:
    lengths = config.model.encoder_length, config.model.prediction_length
    try:
        panel, blocks = make_blocks(panel, config.data, *lengths)
    except UserError as error:
        return [str(error)]
    data, train_rows = config.data, [block.splits.train for block in blocks]
    settings = data.target_scale, data.scaling, config.model.attention
    checks = _checks(config, panel, blocks, starts_of(blocks, "train", *lengths))
    checks.append(partial(fit_encoding, panel, train_rows, *settings))  # in training, `prepare` does it
    # Two of them refuse a regime's column that the panel lacks.
    return list(dict.fromkeys(message for check in checks for message in _error_of(check)))


def _checks(
    config: Config, panel: Panel, blocks: Sequence[Block], train_starts: Int[np.ndarray, "W"]
) -> list[Callable[[], None]]:
    """The checks of a panel that is cut into splits and windows: each raises a UserError."""
    last_rows = train_starts + config.model.encoder_length - 1
    return [
        partial(check_return_units, train_targets(panel, blocks), config.loss.target_std),
        partial(check_batch_size, config.train.batch_size, len(train_starts)),
        partial(check_regimes, panel, last_rows, config.model.attention.regime),
        partial(check_lags, panel, config.model.prediction_length),
    ]


def _error_of(check: Callable[..., Any], *arguments: Any) -> list[str]:
    try:
        check(*arguments)
    except UserError as error:
        return [str(error)]
    return []


def check_return_units(train_targets: Mapping[str, Float[np.ndarray, "M"]], target_std: float) -> None:
    """Refuses train targets of another unit than `loss.target_std`, together or one series among the others.

    Args:
      train_targets: returns by series.
      target_std: standard deviation of the loss, a decimal return.

    Raises:
      UserError: names the series, or says which unit the data seems to be in.
    """
    spreads = {name: float(np.std(returns)) for name, returns in train_targets.items()}
    usual = float(np.median(list(spreads.values())))
    for name, spread in spreads.items():
        if len(spreads) > 1 and not usual / MAX_SERIES_FACTOR <= spread <= usual * MAX_SERIES_FACTOR:
            raise UserError(
                f"series {name!r}: the train target's standard deviation is {spread:.6g}, that of the median"
                f" series {usual:.6g}; expected them within a factor {MAX_SERIES_FACTOR:g}. The series seems"
                " to be in another unit: correct it, or leave it out."
            )
    check_return_unit(float(np.std(np.concatenate(list(train_targets.values())))), target_std)


def check_return_unit(sd: float, target_std: float) -> None:
    """Refuses a train target whose standard deviation is far from `loss.target_std`, both decimal returns.

    Raises:
      UserError: they differ by more than a factor MAX_UNIT_FACTOR; says which unit the data seems to be in.
    """
    if target_std / MAX_UNIT_FACTOR <= sd <= target_std * MAX_UNIT_FACTOR:
        return
    mismatch = (
        f"the train target's standard deviation is {sd:.6g}, loss.target_std is {target_std:.6g}; expected"
        f" them within a factor {MAX_UNIT_FACTOR:g} of each other. "
    )
    # The same value in every row has a standard deviation of a rounding error, not always of 0.
    if not (sd > target_std * 1e-9 and math.isfinite(sd)):
        raise UserError(
            mismatch + "The target is constant or not a number in the train rows: check its column."
        )
    # The unit that brings the two closest; a unit can explain only what looks like a factor of about 100.
    distance = {power: abs(math.log10(sd / target_std) - power) for power in (-2, 0, 2)}
    nearest = min(distance, key=distance.__getitem__)
    if nearest == 2:
        raise UserError(
            mismatch + "The data seems to be in percent and loss.target_std in decimals: for a panel CSV set"
            ' data.return_unit to "percent", so that it is converted on reading.'
        )
    if nearest == -2:
        raise UserError(
            mismatch
            + "The data seems to be in decimals and loss.target_std in percent: write it as a decimal (one"
            ' percent is 0.01). If data.return_unit is "percent", the file may hold decimals already: set it'
            ' to "decimal".'
        )
    raise UserError(
        mismatch + "Both seem to be in decimals, but the series is much calmer or wilder than that: set"
        f" loss.target_std to about {sd:.2g}."
    )


def check_regimes(panel: Panel, last_rows: Int[np.ndarray, "W"], regime: RegimeConfig) -> None:
    """Refuses thresholds between which no train window lies: the gates there would never be trained.

    Args:
      last_rows: last encoder rows of the train windows.

    Raises:
      UserError: names the thresholds and the column's quartiles; see `regime_values`.
    """
    column = regime_values(panel, regime.column)
    if column is None or not len(last_rows):
        return
    values = column[last_rows]
    counts = np.bincount(regime_of(values, regime.thresholds), minlength=regime.num_regimes)
    if not counts.all():
        empty = int(np.argmin(counts))
        quartiles = ", ".join(f"{value:.4g}" for value in np.quantile(values, (0, 0.25, 0.5, 0.75, 1)))
        raise UserError(
            f"model.attention.regime.thresholds: found {list(regime.thresholds)}, which leave regime"
            f" {empty + 1} of {regime.num_regimes} without a train window. In the train windows"
            f" {regime.column} has (minimum, quartiles, maximum) {quartiles}: choose thresholds among these."
        )


def check_batch_size(batch_size: int, num_windows: int) -> None:
    """Refuses a batch larger than the train split, as a UserError."""
    if num_windows < batch_size:
        raise UserError(
            f"train.batch_size: found {batch_size}, but there are only {num_windows} train windows. "
            "Use a smaller batch or more rows."
        )


def check_lags(panel: Panel, prediction_length: int) -> None:
    """Refuses a lag of the target that is not known at the last step of a forecast, as a UserError."""
    for name in panel.known_real:
        lag = lag_of(name) if name in panel.about.get("made", ()) else None
        if lag is not None and lag < prediction_length:
            raise UserError(
                f"data.columns.known_real: found {name!r} with model.prediction_length {prediction_length}:"
                f" the target {lag} rows before is not known at the last step. Use lag_{prediction_length}"
                " or more."
            )


def check_data(config: Config, data: Data) -> None:
    """Refuses data that a run cannot be trained on.

    Raises:
      UserError: returns in another unit than `loss.target_std`, fewer train windows than a batch, or a regime
        without any.
    """
    for check in _checks(config, data.panel, data.blocks, data.starts["train"]):
        check()
