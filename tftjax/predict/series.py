"""Which series of a panel a run can forecast: what is refused, left out or only said."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from tftjax.data.feature_sets import lag_of
from tftjax.data.panel import Panel, blocks, join_series, name_of, split_series
from tftjax.data.scales.target import has_scale_of_unseen, rows_needed
from tftjax.errors import UserError, both, cut
from tftjax.storage import runs

log = logging.getLogger(__name__)


def forecastable(run: runs.Run, panel: Panel) -> Panel:
    """The series of a panel that a run can forecast; what is left out, or was not in training, is logged.

    Raises:
      UserError: fewer rows than the encoder or the scale needs, no series that the run can forecast, or an
        unknown static category for a model that has not learned to do without.
    """
    parts = {name_of(part): part for part in split_series(panel)}
    unseen = _check_unseen(run, [name for name in parts if name not in run.data.encoding.series], len(parts))
    parts = {name: part for name, part in parts.items() if name in run.data.encoding.series or unseen}
    _check_categories(run, parts)
    long_enough = _long_enough(run, parts)
    panel = join_series(long_enough)
    newest = panel.frame.index.max()
    ended = {name_of(part): part.frame.index[-1] for part in long_enough}
    early = [f"{name} ({last.date()})" for name, last in ended.items() if last < newest]
    if early:
        names = ", ".join(early)
        log.warning(f"series that end before {newest.date()}, forecast from their own last rows: {names}")
    return panel


def _check_unseen(run: runs.Run, unknown: Sequence[str], num_series: int) -> bool:
    """Whether series that were not in training are forecast; they are logged.

    Args:
      unknown: names of these series.
      num_series: how many series there are, known or not.
    Raises:
      UserError: they are all that there is, and cannot be forecast.
    """
    encoding, reasons = run.data.encoding, []
    if not run.config.train.static_dropout:
        reasons.append("the embedding of an unknown id is not trained (train.static_dropout is 0)")
    if not has_scale_of_unseen(encoding.target_scale):
        reasons.append(f"data.target_scale {encoding.target_scale!r} is fitted to each series")
    if reasons and len(unknown) == num_series:
        raise UserError(
            f"prediction: found the series {', '.join(unknown[:5])}, and none that the run was trained on"
            f" ({', '.join(encoding.series[:5])}), and it cannot forecast others: {' and '.join(reasons)}."
            " Give data of those series, or train with train.static_dropout above 0 and data.target_scale"
            " 'pooled_log_scale' or 'ewma'."
        )
    if unknown and reasons:
        names = ", ".join(unknown)
        log.warning(f"left out {len(unknown)} series that the run was not trained on: {names}")
    elif unknown:
        scaled = encoding.target_scale != "none"
        how = "" if scaled else ", with the spread of the median series (data.target_scale is 'none')"
        log.warning(
            f"{len(unknown)} series were not in training, forecast as unseen{how}: {', '.join(unknown)}"
        )
    return not reasons


def _check_categories(run: runs.Run, parts: Mapping[str, Panel]) -> None:
    """Refuses values of static columns, but the id, that no train row had; or logs them, as other columns'.

    Raises:
      UserError: such a value, and a model that was trained without `train.static_dropout`.
    """
    train = run.config.train
    changing = _unknown_categories(run, parts, ("observed_categorical", "known_categorical"))
    if changing:
        untrained = "" if train.category_dropout else " (untrained: train.category_dropout is 0)"
        words = _named(changing)
        log.warning(f"categories that were not in training count as unknown{untrained}: {words}")
    if train.static_dropout == 1:  # the model has never seen one
        return
    unknown = _unknown_categories(run, parts, ("static_categorical",))
    if not unknown:
        return
    if not train.static_dropout:
        name, column, value = unknown[0]
        known = run.data.encoding.categories[column]
        series = f"series {name!r}, " if name else ""
        raise UserError(
            f"prediction: {series}static column {column!r}: found {cut(repr(value))}, which no train row had,"
            f" expected one of {', '.join(map(str, known[:10]))}. Correct it, or train with"
            " train.static_dropout above 0, which makes a model do without."
        )
    log.warning(f"static categories that were not in training count as unknown: {_named(unknown)}")


def _unknown_categories(
    run: runs.Run, parts: Mapping[str, Panel], roles: Sequence[str]
) -> list[tuple[str, str, Any]]:
    """Series, column and value of the categories in the encoder's rows that no train row had; not ids."""
    return [
        (name, column, value)
        for name, part in parts.items()
        for role in roles
        for column in getattr(part, role)
        if column != part.id_column
        for value in part.frame[column].iloc[-run.config.model.encoder_length :].dropna().unique()
        if value not in run.data.encoding.categories[column]
    ]


def _named(unknown: Sequence[tuple[str, str, Any]]) -> str:
    return ", ".join(f"{value} ({column}{name and f' of {name}'})" for name, column, value in unknown)


def _long_enough(run: runs.Run, parts: Mapping[str, Panel]) -> list[Panel]:
    """The series that have the rows which encoder, scale and lags need; the others are logged.

    A scale remembers the rows before: fewer than it needs are enough if they are all that there ever were,
    which is known of the series in training.

    Raises:
      UserError: none has them.
    """
    model_config, encoding = run.config.model, run.data.encoding
    trained = {
        name: run.data.panel.frame.index[rows.start]
        for name, rows in _series_of(run)
        if name in encoding.series
    }
    scale = encoding.target_scale, encoding.scales
    short_windows = model_config.fewest_rows < model_config.encoder_length
    made = run.data.panel.about.get("made", ())
    lag = max((lag_of(name) or 0 for name in made), default=0)
    fewest_rows = max(model_config.fewest_rows, lag)
    needed = {
        name: fewest_rows
        if name in trained and part.frame.index[0] <= trained[name]
        else max(fewest_rows, rows_needed(*scale, short_windows))
        for name, part in parts.items()
    }
    new = [
        name
        for name, part in parts.items()
        if name not in trained and needed[name] <= len(part.frame) < rows_needed(*scale)
    ]
    if new:
        log.warning(
            f"{len(new)} series with fewer than {rows_needed(*scale)} rows, whose scale ({scale[0]}) is of"
            f" the rows that there are. Right for a new listing, else give the rows before: {', '.join(new)}"
        )
    short = [name for name, part in parts.items() if len(part.frame) < needed[name]]
    if len(short) == len(parts):
        rows = sum(len(part.frame) for part in parts.values())
        last = max(part.frame.index[-1] for part in parts.values()).date()
        fewest = "model.min_encoder_length" if model_config.min_encoder_length else "model.encoder_length"
        each = f" of {len(parts)} series" if len(parts) > 1 else ""
        lagged = f", a lag of {lag} rows" if lag else ""
        raise UserError(
            f"prediction: found {rows} rows{each} to {last}, the run's windows have at least"
            f" {model_config.fewest_rows} rows of the past ({fewest}){lagged}, and data.target_scale is"
            f" {encoding.target_scale!r}: expected at least {max(needed.values())} rows, as a scale remembers"
            f" rows before those given. Give them too, or a later {both('--as-of')}, if one was given."
        )
    if short:
        rows = max(needed[name] for name in short)
        log.warning(f"left out {len(short)} series with fewer than {rows} rows: {', '.join(short)}")
    return [part for name, part in parts.items() if name not in short]


def _series_of(run: runs.Run) -> tuple[tuple[str, range], ...]:
    return blocks(run.data.panel.frame, run.data.panel.id_column)
