"""tftjax as a forecaster of sktime, whose splitters, metrics, tuners and pipelines it works with.

    from tftjax.integrations.sktime import TFTForecaster

Needs the extra `sktime`; without it the module can be imported, and the forecaster cannot be made.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tftjax.api.arguments import Given, check_number, make_config
from tftjax.api.training import fit, fit_without_judging
from tftjax.config.functions import NO_FUNCTIONS
from tftjax.data.calendar import found_frequency
from tftjax.data.raw.cells import categories
from tftjax.errors import UserError

try:
    import skpro  # noqa: F401  # of its distributions `predict_proba` is made
    from sktime.forecasting.base import BaseForecaster, ForecastingHorizon
except ImportError as error:
    MISSING, BaseForecaster = error, object
else:
    MISSING = None

DATE, SERIES, TARGET = "date", "series", "y"  # columns of the table that is trained on
# Settings that the forecaster makes itself, and of what.
MADE = {
    "target": "y",
    "id": "the levels of y's index",
    "observed": "the argument observed",
    "prediction_length": "the forecasting horizon",
    "split": "the argument validation",
    "split_dates": "the argument validation",
}
# The first of the dates that times get which are no dates; early, as no row may be of a day to come.
COUNTED_FROM = pd.Timestamp("1700-01-01")
# Levels whose quantiles stand for a distribution: equally likely values.
SAMPLE = tuple(np.arange(1, 100) / 100)


class TFTForecaster(BaseForecaster):
    """A Temporal Fusion Transformer as a forecaster of sktime.

    One model learns from all series of a panel or hierarchy. Of several columns of y each has a model of its
    own. The columns of X are known inputs, of numbers or categories, but for those in `observed`. The
    forecast is the median; quantiles of any level are those of `tftjax.Run.predict`. Times that are not
    daily, weekly, monthly or quarterly are counted, row by row.

    `update` takes new rows to forecast from, and leaves the weights as they are: sktime's `UpdateRefitsEvery`
    trains anew at intervals.

    Args:
      config: a `tftjax.Config`, a JSON file, or a dict as in one; None takes the defaults.
      settings: settings by their last name (`{"max_epochs": 30}`) or dotted, over those of the config.
        `data.target_transform` is "as_is" unless set: y may be a level. With few rows and neither a config
        nor a setting, `train.batch_size` is the number of train windows.
      observed: columns of X that are known up to the day of the forecast only; a text is one name.
      validation: share of the times that chooses the epochs; then the model is trained anew on all rows. At
        0 it is trained once, on all rows, for `train.max_epochs`.
      seeds: number of seeds, whose quantiles are averaged; more than one needs a validation.

    Attributes:
      run_: the `tftjax.Run` that forecasts, after `fit`.
      chosen_: the run that chose the epochs, with its verdict and baselines; None without a validation.

    Example:
      >>> from sktime.datasets import load_airline  # doctest: +SKIP
      >>> forecaster = TFTForecaster(settings={"max_epochs": 30, "known": ["month"]})  # doctest: +SKIP
      >>> forecaster.fit(load_airline(), fh=[1, 2, 3]).predict_interval(coverage=0.9)  # doctest: +SKIP
    """

    _tags = {  # noqa: RUF012  # as sktime has it
        "authors": "tftjax",
        "maintainers": "tftjax",
        "y_inner_mtype": ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"],
        "X_inner_mtype": ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"],
        "capability:multivariate": False,
        "capability:exogenous": True,
        "capability:categorical_in_X": True,
        "capability:insample": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
        "capability:missing_values": False,
        "capability:non_contiguous_X": False,
        "capability:update": True,
        "requires-fh-in-fit": True,
        "X-y-must-have-same-index": True,
    }
    _config = {"remember_data": False}  # noqa: RUF012  # the rows are kept here, y beside X
    _y = _X = None  # which sktime sets only where it keeps the rows itself

    def __init__(
        self,
        config: Given = None,
        settings: Mapping[str, Any] | None = None,
        observed: Sequence[Any] = (),
        validation: float | int = 0.15,
        seeds: int = 1,
    ):
        if MISSING is not None:
            raise UserError(
                f"TFTForecaster needs sktime and skpro ({MISSING}). Install them: pip install"
                " 'tftjax[sktime]'."
            )
        self.config = config
        self.settings = settings
        self.observed = observed
        self.validation = validation
        self.seeds = seeds
        super().__init__()

    def _fit(self, y: pd.DataFrame, X: pd.DataFrame | None, fh: Any) -> "TFTForecaster":
        self._check()
        self._rows = _beside(y, X)
        self._counted = not _are_days(_times(self._rows))
        table, _ = self._tables(None)
        fields = self._fields(table, int(fh.to_indexer(self.cutoff).max()) + 1)
        if self.validation:
            self.chosen_ = fit(table, self.config, seeds=self.seeds, quiet=True, **fields)
            self.run_ = self.chosen_.refit(quiet=True)
        else:
            self.chosen_, self.run_ = None, fit_without_judging(table, self.config, **fields)
        return self

    def _check(self) -> None:
        check_number("seeds", self.seeds, 1)
        if not 0 <= self.validation < 1:
            raise UserError(f"validation: found {self.validation!r}, expected a share from 0 to below 1.")
        if self.seeds > 1 and not self.validation:
            raise UserError(
                f"seeds: found {self.seeds} with validation 0, expected 1. Set validation above 0, or average"
                " forecasters by sktime's EnsembleForecaster."
            )
        for name in self.settings or {}:
            if (last := name.rpartition(".")[2]) in MADE:
                raise UserError(
                    f"settings: found {name!r}, which {MADE[last]} gives. Take it out of the settings."
                )

    def _fields(self, table: pd.DataFrame, steps: int) -> dict[str, Any]:
        """The settings of a training on a table, to forecast a number of steps."""
        given = dict(self.settings or {})
        observed = _listed(self.observed)
        known = [name for name in self._rows.columns[1:] if name not in observed]
        fields = {
            "target_transform": "as_is",
            **({"frequency": "daily", "calendar": "24/7"} if self._counted else {}),
            **given,
            **{"date": DATE, "target": TARGET, "prediction_length": steps},
            "known": [*_listed(given.get("known", ())), *known],
            "observed": observed,
        }
        fields |= {"id": SERIES} if SERIES in table else {}
        dates, held = table[DATE].drop_duplicates().sort_values(), 0
        if self.validation:
            # Windows of train, validation and test rows share no target row; the test has a single window.
            held = max(steps, round(self.validation * len(dates))) + 3 * steps
            first = {"val": held - steps, "test": steps}
            fields["split_dates"] = {name: _first_of_last(dates, rows) for name, rows in first.items()}
        if self.config is None and not {"batch_size", "train.batch_size"} & set(given):
            made = make_config(None, fields, NO_FUNCTIONS, table)
            rows = table.groupby(SERIES).size() if SERIES in table else pd.Series([len(table)])
            windows = (rows - held - made.model.encoder_length - steps + 1).clip(lower=0).sum()
            fields["batch_size"] = min(made.train.batch_size, max(int(windows), 1))
        return fields

    def _tables(self, X: pd.DataFrame | None) -> tuple[pd.DataFrame, pd.DataFrame | None]:
        """All rows so far as a dated table, and the rows of X after each series' last; None without X."""
        ahead = None if X is None else self._ahead(_with_names(X))
        times = _times(self._rows) if ahead is None else _times(self._rows).append(_times(ahead))
        times = times.unique().sort_values()
        counted = pd.date_range(COUNTED_FROM, periods=len(times))
        dates = pd.Series(counted if self._counted else _days(times), times)
        return _dated(self._rows, dates), None if ahead is None else _dated(ahead, dates)

    def _ahead(self, X: pd.DataFrame) -> pd.DataFrame:
        """The rows of X after the last one of each series."""
        last = {name: times.max() for name, _, times in _series(self._rows)}
        return X[
            [name in last and time > last[name] for name, time in zip(_names(X), _times(X), strict=True)]
        ]

    def _forecast(self, fh: Any, X: pd.DataFrame | None, levels: Sequence[float]) -> pd.DataFrame:
        """Quantiles at ascending levels: a row a series and step of the horizon, a column a level."""
        known = self._rows.columns[1:].difference(_listed(self.observed))
        if len(known) and X is None:
            raise UserError(
                f"X: found None, expected the values of {', '.join(known)} in the steps to come, as the model"
                " was fitted with them. Give X, or name in `observed` what is not known beforehand."
            )
        table, future = self._tables(X if len(known) else None)
        forecast = self.run_.predict(table, future=future, quantiles=levels)
        steps = fh.to_indexer(self.cutoff)
        parts = []
        for name, labels, times in _series(self._rows):
            own = forecast if SERIES not in table else forecast[forecast["series"] == name]
            if own.empty:
                raise UserError(
                    f"series {name!r}: found {len(times)} rows, too few to forecast from: expected at least"
                    f" model.encoder_length, {self.run_.config.model.encoder_length}. Leave it out."
                )
            index = self._index(fh, times)
            if SERIES in table:
                above = [[label] * len(index) for label in labels]
                index = pd.MultiIndex.from_arrays([*above, index], names=self._rows.index.names)
            parts.append(own.select_dtypes("float").iloc[steps].set_axis(index).set_axis(levels, axis=1))
        return pd.concat(parts)

    def _index(self, fh: Any, times: pd.Index) -> pd.Index:
        """The times of the horizon after the last row of a series, which may end before others.

        Raises:
          UserError: dates without a frequency, so that nobody can say which come next.
        """
        if self._rows.index.nlevels == 1:
            return fh.to_absolute_index(self.cutoff)
        freq = fh.freq
        if freq is None and isinstance(times, pd.DatetimeIndex):
            freq = pd.infer_freq(times) if len(times) > 2 else None
            if freq is None:
                raise UserError(
                    f"y: found dates from {times.min()} to {times.max()} without a frequency that pandas"
                    " infers, expected one. Give periods (a PeriodIndex), or count the times."
                )
        ahead = ForecastingHorizon(fh.to_indexer(self.cutoff) + 1, is_relative=True, freq=freq)
        return ahead.to_absolute_index(times[[times.argmax()]])

    def _predict(self, fh: Any, X: pd.DataFrame | None) -> pd.DataFrame:
        return self._forecast(fh, X, [0.5]).set_axis(self._get_varnames(), axis=1)

    def _predict_quantiles(self, fh: Any, X: pd.DataFrame | None, alpha: Sequence[float]) -> pd.DataFrame:
        forecast = self._forecast(fh, X, sorted(set(alpha)))[list(alpha)]
        return forecast.set_axis(pd.MultiIndex.from_product([self._get_varnames(), alpha]), axis=1)

    def _predict_proba(self, fh: Any, X: pd.DataFrame | None, marginal: bool = True) -> Any:
        from skpro.distributions import Empirical

        sample = self._forecast(fh, X, SAMPLE)
        values = pd.concat({level: sample[level] for level in SAMPLE}).to_frame()
        values.columns = self._get_varnames()
        return Empirical(values, index=sample.index, columns=values.columns)

    def _update(
        self, y: pd.DataFrame, X: pd.DataFrame | None = None, update_params: bool = True
    ) -> "TFTForecaster":
        rows = pd.concat([self._rows, _beside(y, X)])
        self._rows = rows[~rows.index.duplicated(keep="last")]
        return self

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Settings for sktime's tests: the smallest network, for one epoch."""
        model = {"encoder_length": 2, "hidden_size": 1, "num_heads": 1}
        train = {"max_epochs": 1, "batch_size": 4}
        return [
            {"settings": {**model, **train}, "validation": 0},
            {"config": {"model": model, "train": train}, "validation": 0},
        ]


def _listed(names: Sequence[Any] | str) -> list[str]:
    """Names of columns as text; a text is one name."""
    return [names] if isinstance(names, str) else [str(name) for name in names]


def _beside(y: pd.DataFrame, X: pd.DataFrame | None) -> pd.DataFrame:
    """The target, under the name TARGET, with the columns of X beside it."""
    rows = y.set_axis([TARGET], axis=1)
    return rows if X is None else rows.join(_with_names(X).reindex(y.index))


def _with_names(X: pd.DataFrame) -> pd.DataFrame:
    """X with text for the names of its columns.

    Raises:
      UserError: a name that is taken.
    """
    X = X.set_axis(list(map(str, X.columns)), axis=1)
    taken = [name for name in X if name in (DATE, SERIES, TARGET)]
    if taken:
        raise UserError(
            f"X: found a column {taken[0]!r}, a name that the forecaster needs itself. Rename the column."
        )
    return X


def _times(rows: pd.DataFrame) -> pd.Index:
    return rows.index.get_level_values(-1)


def _names(rows: pd.DataFrame) -> list[str]:
    """The name of each row's series, made of the labels above its time; empty without any."""
    names = ["/".join(map(str, labels[:-1])) for labels in rows.index.to_frame().itertuples(index=False)]
    return [name or "" for name in categories(names)]  # as a table's ids are read


def _series(rows: pd.DataFrame) -> Iterator[tuple[str, tuple, pd.Index]]:
    """Each series, in the order of the rows: its name, the labels above its times, and the times."""
    codes, names = pd.factorize(np.array(_names(rows), object))
    for code, name in enumerate(names):
        index = rows.index[codes == code]
        yield name, () if index.nlevels == 1 else index[0][:-1], index.get_level_values(-1)


def _dated(rows: pd.DataFrame, dates: pd.Series) -> pd.DataFrame:
    """Rows as a table in the order of time: dates, and the names of series if there are several."""
    columns = {DATE: dates[_times(rows)].to_numpy()}
    if rows.index.nlevels > 1:
        columns[SERIES] = _names(rows)
    table = pd.DataFrame(columns).join(rows.reset_index(drop=True))
    return table.sort_values(DATE, kind="stable", ignore_index=True)


def _days(times: pd.Index) -> pd.Index:
    """The day of each time, of a period its last; times that are none as they are."""
    if isinstance(times, pd.PeriodIndex):
        times = times.to_timestamp(how="end")
    return times.tz_localize(None).normalize() if isinstance(times, pd.DatetimeIndex) else times


def _are_days(times: pd.Index) -> bool:
    """Whether times are days, weeks, months or quarters."""
    found = _days(times.unique().sort_values())
    if not isinstance(found, pd.DatetimeIndex) or not found.is_unique:
        return False
    return found_frequency(found.to_numpy().astype("datetime64[D]")) is not None


def _first_of_last(dates: pd.Series, rows: int) -> pd.Timestamp:
    """A date that divides the last rows from those before, whichever day of its month a row has."""
    before = dates.iloc[: max(len(dates) - rows, 1)].iloc[-1]
    return before + pd.Timedelta(days=1)
