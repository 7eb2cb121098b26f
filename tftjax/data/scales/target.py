"""Scales of the target: the volatility known at each row, by which the next return is divided.

A scale is fitted on the train rows of a series, or of all together, and applied to all rows of a series, each
from what is known at its end. Its logarithm is a column that the network sees. To add one: a function for
each, and a line of TARGET_SCALES; its name in config/data.py.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from tftjax.data.panel import Panel, blocks
from tftjax.data.scales import log_scale
from tftjax.data.scales.garch import Garch, filter_variance, fit_garch
from tftjax.data.volatility import EWMA_BURN_IN, MIN_VOLATILITY, ewma_volatility
from tftjax.errors import UserError

log = logging.getLogger(__name__)

Column = Float[np.ndarray, " R"]

LOG_SCALE = "log_scale"  # name of the column of the scale's logarithm
FALLBACK = {"fallback": "ewma"}  # parameters of a fit that did not converge
FEATURES = "features"  # among the parameters, where the features of `log_scale` are columns too


class Source(NamedTuple):
    """Columns of one series that a scale may use.

    Attributes:
      returns: the target; NaN in rows of the future.
      observed: the other observed columns.
      dates: dates of the rows.
    """

    returns: Column
    observed: Mapping[str, Column]
    dates: pd.DatetimeIndex


def _fit_column(sources: Sequence[Source], train: Sequence[range], name: str | None) -> dict[str, Any]:
    if name not in sources[0].observed:
        raise UserError(
            f"data.target_scale: found 'column:{name}', expected an observed column of the panel:"
            f" {', '.join(sources[0].observed)}. Correct the name."
        )
    return {"column": name}


def _by_column(source: Source, parameters: Mapping[str, Any]) -> Column:
    """That column as it is; its unit does not matter, the scaler sees to it."""
    name = parameters["column"]
    values = source.observed[name]
    # Rows of the future have no value yet, nor a target.
    gone = np.isnan(values) & ~np.isnan(source.returns)
    if gone.any():
        raise UserError(
            f"data.target_scale: column {name!r} has no value in row {int(np.argmax(gone))}, expected one in"
            " every row. Fill it, begin later (data.start), or choose another column."
        )
    if np.any(values <= 0):
        row = int(np.argmax(values <= 0))
        raise UserError(
            f"data.target_scale: column {name!r} is {values[row]:g} in row {row}, expected values above 0."
            " Choose another column, such as a volatility."
        )
    return values


def _fit_gjr(sources: Sequence[Source], train: Sequence[range], name: str | None) -> dict[str, Any]:
    fitted = _garch_fit(sources[0], train[0])
    return FALLBACK if fitted is None else fitted._asdict()


def _garch_fit(source: Source, train: range) -> Garch | None:
    return fit_garch(source.returns[train.start : train.stop], "gjr_garch")


def _by_gjr(source: Source, parameters: Mapping[str, Any]) -> Column:
    """Sigma of GJR-GARCH of the row after each."""
    return np.sqrt(filter_variance(_garch_of(parameters), source.returns)[1:])


def _garch_of(parameters: Mapping[str, Any]) -> Garch:
    own = {name: parameters[name] for name in Garch._fields}
    return Garch(**{**own, "shape": tuple(own["shape"])})


def _fit_log_scale(sources: Sequence[Source], train: Sequence[range], name: str | None) -> dict[str, Any]:
    return _fit_regression(sources, train, name, _garch_fit(sources[0], train[0]))


def _fit_regression(
    sources: Sequence[Source], train: Sequence[range], name: str | None, garch: Garch | None = None
) -> dict[str, Any]:
    designs = [_design(source, name, garch) for source in sources]
    fitted = log_scale.fit(*log_scale.rows_of_all(designs, [source.returns for source in sources], train))
    if fitted is None:
        return FALLBACK
    numbers = {key: np.asarray(value).tolist() for key, value in fitted._asdict().items()}
    return numbers | {"volatility": name, "garch": None if garch is None else garch._asdict()}


def _design(source: Source, name: str | None, garch: Garch | None) -> Float[np.ndarray, "R F"]:
    volatility = None if name is None else source.observed[name]
    return log_scale.matrix(log_scale.features(source.returns, source.dates, volatility, garch))


def _by_log_scale(source: Source, parameters: Mapping[str, Any]) -> Column:
    """Sigma of the regression of the row after each; NaN in rows of the future."""
    model = log_scale.LogScale(
        *(np.array(parameters[name]) for name in ("weights", "center", "spread")),
        *(parameters[name] for name in ("intercept", "low", "high")),
    )
    garch = None if parameters["garch"] is None else _garch_of(parameters["garch"])
    sigma = log_scale.sigma(model, _design(source, parameters["volatility"], garch))
    return np.where(np.isnan(source.returns), np.nan, sigma)


def _fit_features(sources: Sequence[Source], train: Sequence[range], name: str | None) -> dict[str, Any]:
    """The column of volatility, and the mean of each feature over the train rows, for where it is missing."""
    columns = [
        {key: values[rows.start : rows.stop] for key, values in _features(source, name).items()}
        for source, rows in zip(sources, train, strict=True)
    ]
    of_all = {key: np.concatenate([part[key] for part in columns]) for key in columns[0]}
    known = {key: values[np.isfinite(values)] for key, values in of_all.items()}
    means = {key: float(values.mean()) if len(values) else 0.0 for key, values in known.items()}
    return {FEATURES: {"volatility": name, "means": means}}


def _features(source: Source, name: str | None) -> dict[str, Column]:
    """The features of `log_scale` but that of GJR-GARCH, which has no value where it does not converge."""
    volatility = None if name is None else source.observed[name]
    return log_scale.features(source.returns, source.dates, volatility, None)


def _by_features(source: Source, parameters: Mapping[str, Any]) -> dict[str, Column]:
    """The features as columns; NaN in rows of the future."""
    future = np.isnan(source.returns)
    means = parameters["means"]
    return {
        name: np.where(future, np.nan, np.where(np.isfinite(values), values, means[name]))
        for name, values in _features(source, parameters["volatility"]).items()
    }


class TargetScale(NamedTuple):
    """A divisor of the target.

    Attributes:
      fit: maps series, their train rows and a column to parameters, as JSON; the column is the text after the
        colon of `data.target_scale`, or else the column of volatility.
      apply: maps a series and the parameters to the scale known at each row.
      burn_in: number of a series' first rows whose scale is too uncertain to fit a scaler on.
      rows: number of past rows after which a scale has forgotten where the data begin.
      shared: whether all series are fitted together, and have the same parameters: those that were not in
        training too. Else each is fitted alone.
    """

    fit: Callable[[Sequence[Source], Sequence[range], str | None], dict[str, Any]]
    apply: Callable[[Source, Mapping[str, Any]], Column]
    burn_in: int = 1  # a return is divided by the scale of the row before it
    rows: int = 1
    shared: bool = True


# By the text of `data.target_scale` up to a colon; config/data.py has the names too, for the JSON schema.
# 75 rows hold 99 % of the weight of a moving volatility with decay 0.94.
TARGET_SCALES = {
    "ewma": TargetScale(
        lambda sources, train, name: {},
        lambda source, parameters: ewma_volatility(source.returns),
        EWMA_BURN_IN,
        75,
    ),
    "column": TargetScale(_fit_column, _by_column),
    "gjr": TargetScale(_fit_gjr, _by_gjr, EWMA_BURN_IN, 250, shared=False),
    "log_scale": TargetScale(_fit_log_scale, _by_log_scale, log_scale.BURN_IN, 250, shared=False),
    # Without sigma of GJR-GARCH, which has numbers of a series: an unseen one is treated as the others are.
    "pooled_log_scale": TargetScale(_fit_regression, _by_log_scale, log_scale.BURN_IN, 75),
}


def scale_of(target_scale: str) -> TargetScale:
    """The entry of TARGET_SCALES that `data.target_scale`, such as "column:VIX", names."""
    return TARGET_SCALES[target_scale.partition(":")[0]]


def rows_needed(
    target_scale: str, parameters: Sequence[Mapping[str, Any]], short_windows: bool = False
) -> int:
    """Number of past rows after which the scale, and the features beside it, forget where the data begin.

    Args:
      short_windows: whether a series with few rows counts as one that has just begun, whose rows are all that
        there are. Its "ewma" is then that of the same rows in training: a mean of those that there are.
    """
    if target_scale == "none":
        return 1
    features = TARGET_SCALES["ewma"].rows if any(FEATURES in one for one in parameters) else 1
    if target_scale == "ewma" and short_windows and features == 1:
        return EWMA_BURN_IN
    return max(scale_of(target_scale).rows, features)


def _source(panel: Panel, rows: range) -> Source:
    frame = panel.frame.iloc[rows.start : rows.stop]
    target, *observed = (frame[name].to_numpy(np.float64) for name in panel.observed)
    return Source(target, dict(zip(panel.observed[1:], observed, strict=True)), frame.index)


def fit_scales(
    panel: Panel,
    train_rows: Sequence[range],
    target_scale: str,
    volatility: str | None,
    scale_features: bool = False,
) -> tuple[dict[str, Any], ...]:
    """Parameters of the target's scale, as JSON: of each series, or an entry that all share; () for "none".

    A fit that does not converge falls back to the moving volatility, and that is logged.

    Args:
      train_rows: train rows of each series, counted over the whole panel.
      target_scale: `data.target_scale`.
      volatility: the column that counts as implied volatility.
      scale_features: `data.scale_features`.
    Raises:
      UserError: an unknown column.
    """
    if target_scale == "none":
        return ()
    name, scale = target_scale.partition(":")[2] or volatility, scale_of(target_scale)
    parts = blocks(panel.frame, panel.id_column)
    names = [series for series, _ in parts]
    sources = [_source(panel, rows) for _, rows in parts]
    own = [
        range(train.start - rows.start, train.stop - rows.start)
        for (_, rows), train in zip(parts, train_rows, strict=True)
    ]
    alone = [([source], [train]) for source, train in zip(sources, own, strict=True)]
    groups = {"": (sources, own)} if scale.shared else dict(zip(names, alone, strict=True))
    failed, fitted = [], []
    for series, (of_group, train) in groups.items():
        parameters = scale.fit(of_group, train, name)
        failed += [series] if parameters == FALLBACK else []
        fitted.append(parameters | (_fit_features(of_group, train, volatility) if scale_features else {}))
    if failed:
        of = f" for {', '.join(failed[:5])}{', ...' if len(failed) > 5 else ''}" if any(failed) else ""
        log.warning(f"data.target_scale {target_scale!r} could not be fitted{of}: ewma takes its place")
    return tuple(fitted)


def has_scale_of_unseen(target_scale: str) -> bool:
    """Whether a series that was not in training has a scale: unless it would have to be fitted to it."""
    return target_scale == "none" or scale_of(target_scale).shared


def with_scale(
    panel: Panel, names: Sequence[str], target_scale: str, parameters: Sequence[Mapping[str, Any]]
) -> Panel:
    """The panel with the logarithm of the target's scale as an observed column, if there is a scale.

    The features of `log_scale` follow it where the parameters have them.

    Args:
      names: the series in training.
      parameters: what `fit_scales` fitted to them.
    Raises:
      UserError: a value of a column that is not above 0, a column of one of these names, or a series that was
        not in training, where the scale is fitted to each.
    """
    if target_scale == "none" or panel.about.get("scaled"):
        return panel
    shared, parts = scale_of(target_scale).shared, []
    for series, rows in blocks(panel.frame, panel.id_column):
        if not shared and series not in names:
            raise UserError(
                f"panel: found the series {series!r}, which was not in training, and data.target_scale"
                f" {target_scale!r}, which is fitted to each series. Leave the series out, or train with"
                " 'pooled_log_scale' or 'ewma'."
            )
        source, own = _source(panel, rows), parameters[0 if shared else names.index(series)]
        apply = TARGET_SCALES["ewma"].apply if "fallback" in own else scale_of(target_scale).apply
        columns = {LOG_SCALE: np.log(np.maximum(apply(source, own), MIN_VOLATILITY))}
        parts.append(columns | (_by_features(source, own[FEATURES]) if FEATURES in own else {}))
    taken = [name for name in parts[0] if name in panel.frame]
    if taken:
        raise UserError(
            f"panel: found a column {taken[0]!r}, a name that the target's scale needs. Rename it."
        )
    added = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    observed = (*panel.observed, *added)
    frame = panel.frame.assign(**added)
    return replace(panel, frame=frame, observed=observed, about=panel.about | {"scaled": True})
