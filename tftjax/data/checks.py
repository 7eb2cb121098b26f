"""Every check that training makes on its data, all findings at once."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tftjax.config.data import DataConfig
from tftjax.config.evaluation import conformal_rows, outermost
from tftjax.config.loading import Config
from tftjax.config.model import RegimeConfig
from tftjax.config.train import TrainConfig
from tftjax.data.conditions import regime_of, regime_values
from tftjax.data.feature_sets import lag_of, source_of
from tftjax.data.loading import date_column, feature_set_of, find_dataset, load_panel, table_of
from tftjax.data.panel import ROLES_FILE, Panel
from tftjax.data.prepared import Data, fit_to_train_rows, train_targets
from tftjax.data.raw.fred_csv import read_fred_csv
from tftjax.data.splits import Block, make_blocks, starts_of
from tftjax.data.tables.table import check_table
from tftjax.errors import UserError

MAX_SERIES_FACTOR = 25.0  # between the standard deviations of two series: a unit makes 100
MAX_UNIT_FACTOR = 5.0  # between the train target's standard deviation and loss.target_std
# Returns of more rows than this have both signs, and move up and down more freely than this.
MIN_ROWS, MAX_AUTOCORRELATION = 20, 0.9
# Standard deviations of daily to yearly returns as decimals lie between these: percent read as decimals lies
# above, decimals divided by 100 lie below.
CALMEST, WILDEST = 3e-4, 0.2
PLAIN = DataConfig()  # returns as decimals


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
        try:
            table = table_of(config.data)
        except UserError as error:
            return [str(error)]
        problems += check_table(table, feature_set, date_column(config.data), config.data.wide)
    if problems:
        return problems
    try:
        panel = load_panel(config.data)
    except UserError as error:
        return [str(error)]
    return _check_panel(panel, config)


def _check_panel(panel: Panel, config: Config) -> list[str]:
    lengths = config.model.fewest_rows, config.model.prediction_length
    try:
        panel, blocks = make_blocks(panel, config.data, *lengths)
    except UserError as error:
        return [str(error)]
    lacking = config.model.encoder_length - lengths[0]
    starts = (starts_of(blocks, split, *lengths) - lacking for split in ("train", "val"))
    checks = _checks(config, panel, blocks, *starts)
    checks.append(partial(fit_to_train_rows, panel, blocks, config))  # in training, `prepare` does it
    # Two of them refuse a regime's column that the panel lacks.
    return list(dict.fromkeys(message for check in checks for message in _error_of(check)))


def _checks(
    config: Config,
    panel: Panel,
    blocks: Sequence[Block],
    train_starts: Int[np.ndarray, "W"],
    val_starts: Int[np.ndarray, "V"],
) -> list[Callable[[], None]]:
    """The checks of a panel that is cut into splits and windows: each raises a UserError."""
    last_rows = train_starts + config.model.encoder_length - 1
    return [
        partial(check_target, train_targets(panel, blocks), panel.target, config),
        partial(check_batch_size, config.train.batch_size, len(train_starts)),
        partial(check_regimes, panel, last_rows, config.model.attention.regime),
        partial(check_lags, panel, config.model.prediction_length),
        partial(check_conformal, config, len(val_starts)),
        partial(check_hidden, panel, config.train),
    ]


def _error_of(check: Callable[..., Any], *arguments: Any) -> list[str]:
    try:
        check(*arguments)
    except UserError as error:
        return [str(error)]
    return []


def check_target(train_targets: Mapping[str, Float[np.ndarray, "M"]], target: str, config: Config) -> None:
    """Refuses a train target that is a level, or of another unit than it seems to be meant in.

    Args:
      train_targets: values by series.
      target: name of the target's column.

    Raises:
      UserError: see `check_changes`, `check_series_units`, `check_return_unit` and `check_own_unit`.
    """
    if config.data.target_transform == "none":
        check_changes(train_targets, target)
    check_series_units(train_targets)
    check = check_return_unit if _is_penalised(config) else check_own_unit
    check(_spread(train_targets), config.loss.target_std, config.data)


def _spread(train_targets: Mapping[str, Float[np.ndarray, "M"]]) -> float:
    return float(np.std(np.concatenate(list(train_targets.values()))))


def _is_penalised(config: Config) -> bool:
    """Whether the loss has a penalty with a weight: without one, target_std changes nothing that is asked."""
    return bool(config.functions.penalties) or any(
        value
        for key, value in config.loss.model_dump().items()
        if key.endswith("_weight") and key != "correction_weight"  # which is in units of the target's scale
    )


def with_own_spread(config: Config, data: Data) -> Config:
    """The config with the train target's own spread as `loss.target_std`, where that is far off and unused.

    The loss is divided by target_std, so that gradients are O(1) for the clip and for Adam. Without a penalty
    it has no other use; so where it is more than a factor MAX_UNIT_FACTOR away, as it is for monthly returns
    or for spreads, the data's own spread takes its place. Nearer ones stay.
    """
    spread = _spread(train_targets(data.panel, data.blocks))
    if _is_penalised(config) or _is_near(spread, config.loss.target_std):
        return config
    loss = config.loss.model_copy(update={"target_std": float(f"{spread:.4g}")})
    return config.model_copy(update={"loss": loss})


def _is_near(sd: float, target_std: float) -> bool:
    return bool(target_std / MAX_UNIT_FACTOR <= sd <= target_std * MAX_UNIT_FACTOR)


def check_changes(train_targets: Mapping[str, Float[np.ndarray, "M"]], target: str) -> None:
    """Refuses a target that looks like a price or a level: of one sign, or hardly moving from row to row.

    Args:
      train_targets: values by series.
      target: name of the target's column.

    Raises:
      UserError: names the series, what was found, and the settings that make changes of levels.
    """
    for name, values in train_targets.items():
        if len(values) <= MIN_ROWS or np.ptp(values) <= 1e-9 * np.abs(values).max():
            continue  # too few to tell, or constant, which the check of the unit explains
        autocorrelation = 0.0
        if np.ptp(values[1:]) and np.ptp(values[:-1]):
            autocorrelation = float(np.corrcoef(values[:-1], values[1:])[0, 1])
        if values.min() > 0 or values.max() < 0:
            found = f"values of one sign ({values.min():.6g} to {values.max():.6g}) in all train rows"
        elif autocorrelation > MAX_AUTOCORRELATION:
            found = f"a correlation of {autocorrelation:.3f} between one train row and the next"
        else:
            continue
        series = f"series {name!r}, " if name else ""
        raise UserError(
            f"{series}target {target!r}: found {found}, expected returns, which have both signs and hardly"
            " depend on the row before. It looks like a price or another level: set data.target_transform to"
            ' "return", "log_return" or "difference", and its changes are forecast; or to "as_is", if the'
            " level itself is to be forecast, such as a volatility or a spread."
        )


def check_series_units(train_targets: Mapping[str, Float[np.ndarray, "M"]]) -> None:
    """Refuses one series of another unit than the others, by the standard deviations of its train targets.

    Raises:
      UserError: names the series.
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


def check_return_unit(sd: float, target_std: float, data: DataConfig = PLAIN) -> None:
    """Refuses a train target whose standard deviation is far from `loss.target_std`, both decimal returns.

    Args:
      data: how the target was read: returns that were computed, or divided by 100, are in decimals.

    Raises:
      UserError: they differ by more than a factor MAX_UNIT_FACTOR; says which unit the data seems to be in.
    """
    if _is_near(sd, target_std):
        return
    mismatch = (
        f"the train target's standard deviation is {sd:.6g}, loss.target_std is {target_std:.6g}; expected"
        f" them within a factor {MAX_UNIT_FACTOR:g} of each other. "
    )
    _check_moves(sd, target_std, mismatch)
    # The unit that brings the two closest; a unit can explain only what looks like a factor of about 100.
    distance = {power: abs(math.log10(sd / target_std) - power) for power in (-2, 0, 2)}
    nearest = min(distance, key=distance.__getitem__)
    if data.target_transform == "none" and nearest == 2 and data.return_unit == "decimal":
        raise UserError(
            mismatch + "The data seems to be in percent and loss.target_std in decimals: for a panel CSV set"
            ' data.return_unit to "percent", so that it is converted on reading.'
        )
    if data.target_transform == "none" and nearest == -2:
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


def check_own_unit(sd: float, target_std: float, data: DataConfig) -> None:
    """Refuses a train target in a unit in which no returns are, where no penalty asks for a spread.

    Args:
      sd: the train target's standard deviation; near `target_std` it may be what it is.
      data: how the target was read; what was computed, or is meant as it is, may have any spread.

    Raises:
      UserError: says which unit the data seems to be in.
    """
    if _is_near(sd, target_std):
        return
    found = f"the train target's standard deviation is {sd:.6g} from one row to the next as a decimal"
    _check_moves(sd, target_std, f"{found}, expected returns. ")
    if data.target_transform != "none":
        return
    meant = f" If the returns are right as they are, say so: set loss.target_std to {sd:.2g}."
    if sd > WILDEST and data.return_unit == "percent":
        raise UserError(
            f"{found}, after division by 100; expected at most {WILDEST:g}. The target seems to be no return"
            ' in percent: correct it, or, if it is a level, set data.target_transform to "return",'
            f' "difference" or "as_is".{meant}'
        )
    if sd > WILDEST:
        raise UserError(
            f"{found}, {sd:.0%}; expected at most {WILDEST:g}. The data seems to be in percent: for a table"
            ' of your own set data.return_unit to "percent", so that it is converted on reading. If the'
            f' target is no return, but meant as it is, set data.target_transform to "as_is".{meant}'
        )
    if sd < CALMEST and data.return_unit == "percent":
        raise UserError(
            f"{found}, after division by 100; expected at least {CALMEST:g}. The file may hold decimals"
            f' already: set data.return_unit to "decimal".{meant}'
        )


def _check_moves(sd: float, target_std: float, found: str) -> None:
    # The same value in every row has a standard deviation of a rounding error, not always of 0.
    if not (sd > target_std * 1e-9 and math.isfinite(sd)):
        raise UserError(found + "The target is constant or not a number in the train rows: check its column.")


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
    """Refuses a lag that is not known at the last step of a forecast, unless it is masked, as a UserError."""
    if panel.masks_known:
        return
    for name in panel.known_real:
        lag = lag_of(name) if name in panel.about.get("made", ()) else None
        if lag is not None and lag < prediction_length:
            raise UserError(
                f"data.columns.known_real: found {name!r} with model.prediction_length {prediction_length}:"
                f" {source_of(name, panel.target)} {lag} rows before is not known at the last step. Use"
                f" {name.replace(f'lag_{lag}', f'lag_{prediction_length}', 1)} or more, or"
                " data.missing_known 'mask', which takes it as unknown at the later steps."
            )


def check_conformal(config: Config, num_windows: int) -> None:
    """Refuses fewer validation windows than `evaluation.conformal` needs for a level, as a UserError."""
    needed = conformal_rows(config.model.quantiles)
    asked = config.evaluation.conformal != "none" and not (config.data.train_on_val or config.data.final_fit)
    if asked and num_windows < needed:
        raise UserError(
            f"evaluation.conformal: found {num_windows} validation windows, expected at least {needed} for"
            f" the quantile {outermost(config.model.quantiles):g}. Take more rows for validation"
            " (data.split), leave outer levels out of model.quantiles, or set evaluation.conformal to 'none'."
        )


def check_hidden(panel: Panel, train: TrainConfig) -> None:
    """Refuses to hide inputs at random where there are none, as a UserError."""
    if train.category_dropout and not panel.observed_categorical + panel.known_categorical:
        raise UserError(
            f"train.category_dropout: found {train.category_dropout:g}, and no observed or known column of"
            " categories: there is nothing to hide. Set it to 0; static ones are hidden by"
            " train.static_dropout."
        )
    if train.known_dropout and not panel.known_real:
        raise UserError(
            f"train.known_dropout: found {train.known_dropout:g}, and no known column of numbers: there is"
            " nothing to hide. Set it to 0, or name some in data.columns.known_real."
        )


def check_data(config: Config, data: Data) -> None:
    """Refuses data that a run cannot be trained on.

    Raises:
      UserError: a target that looks like a level, returns in another unit than `loss.target_std`, fewer train
        windows than a batch, a regime without any, or too few validation windows for a calibration.
    """
    for check in _checks(config, data.panel, data.blocks, data.starts["train"], data.starts["val"]):
        check()
