"""The section `data`: where the panel comes from, what its columns are, how its rows are split."""

import datetime
import itertools
import math
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from tftjax.config.section import Fraction, Section

OF_EACH_SERIES = ("gjr", "log_scale")  # values of target_scale with parameters of each series


class ColumnsConfig(Section):
    """The roles of the columns of a table of one's own."""

    date: str = Field("date", min_length=1, description="the column of dates, YYYY-MM-DD, ascending")
    id: str | None = Field(
        None, min_length=1, description="in a table of several series, the column that names a row's series"
    )
    target: str = Field(
        min_length=1, description="what is forecast: a return, or what data.target_transform makes of it"
    )
    observed: tuple[str, ...] = Field((), description="numbers known up to the day of the forecast")
    observed_categorical: tuple[str, ...] = Field(
        (), description="categories known up to the day of the forecast, such as a rating"
    )
    known_real: tuple[str, ...] = Field(
        (),
        description="numbers known beforehand. Made by name: days_to_NAME, days until the next of the dates"
        " that data.events lists under NAME, at most 60; lag_N, the target N rows before, and lag_N_of_NAME,"
        " an observed column's value, N at least model.prediction_length; and relative_index, a step's"
        " distance from the last row of the past, in lengths of the encoder",
    )
    known_categorical: tuple[str, ...] = Field(
        (),
        description="categories known beforehand. Made by name: day_of_week and month; with an exchange in"
        " data.calendar also before_holiday, after_holiday and half_day",
    )
    static_real: tuple[str, ...] = Field((), description="numbers that never change")
    weight: str | None = Field(
        None,
        min_length=1,
        description="a column of numbers of 0 or more: a train window counts in the loss by the mean of its"
        " target rows; no input, and nothing in validation or evaluation; null: all alike",
    )
    static_categorical: tuple[str, ...] = Field((), description="categories that never change")

    @field_validator("static_categorical")
    @classmethod
    def _one_role_each(cls, static_categorical: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        roles = [value for value in (*info.data.values(), static_categorical) if value]
        names = [name for value in roles for name in ((value,) if isinstance(value, str) else value)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if "date" in names[1:]:
            raise ValueError("no role for a column named 'date', unless it holds the dates: rename it")
        if twice:
            raise ValueError(f"each column in one role ({', '.join(twice)} has two)")
        return static_categorical


class SeriesConfig(Section):
    """A series with release dates, which becomes an observed column of the series' name."""

    file: str | None = Field(
        None,
        min_length=1,
        description="CSV or Parquet file with a row a value published; null: a frame that tftjax.fit is given"
        " in vintages, with the columns observation, release and value",
    )
    date: str = Field("observation_date", min_length=1, description="the column of observation dates")
    value: str | None = Field(
        None, min_length=1, description="the column of values; null: that of the series' name"
    )
    release: str | None = Field(
        None,
        min_length=1,
        description="the column of release dates; a date stands in a row for each value that was published"
        " for it. null: release_rule says when a value is seen",
    )
    release_rule: str | None = Field(
        None,
        min_length=1,
        description="when a value is seen, where no column says it: a rule that tftjax data list shows, such"
        " as 'next_business_day', or 'days:N', N days after its date",
    )
    unit: str | None = Field(
        None,
        min_length=1,
        description="unit of the values, which are checked for it: a name that tftjax data list shows; null:"
        " not said",
    )
    frequency: Literal["daily", "weekly", "monthly", "quarterly"] | None = Field(
        None, description="frequency of the observations; null: found from their dates"
    )
    transform: tuple[str, ...] = Field(
        (),
        description="what is made of the values, one step after the other, by names that tftjax data list"
        " shows, such as 'change_over_year' and 'z_score:36'; none: the values as they are",
    )
    max_gap: int | None = Field(
        None,
        ge=0,
        le=100_000,
        description="longest gap: of a daily series, business days between two values (null: data.max_gap);"
        " else weeks, months or quarters missing in a row (null: 2)",
    )
    column: bool = Field(
        True, description="whether it is a column; false: it is only what another series takes off (minus:)"
    )

    @field_validator("release_rule")
    @classmethod
    def _when_it_is_known(cls, rule: str | None, info: ValidationInfo) -> str | None:
        given = [name for name in ("file", "release") if info.data.get(name) is not None]
        if rule is None and given == ["file"]:
            raise ValueError(
                "a rule such as 'next_business_day' or 'days:45', or set release to the column of release"
                " dates: without either nothing says when a value was known"
            )
        if rule is not None and "release" in given:
            raise ValueError("null, or release left out: both say when a value was known")
        if rule is not None and "file" not in given:
            raise ValueError("null without a file: a frame in vintages has release dates")
        return rule


class SplitDates(Section):
    """Splits by the dates of their first target rows, in place of fractions: one fold."""

    train: datetime.date | None = Field(None, description="first train row, ISO; null: the first of the data")
    val: datetime.date = Field(description="first validation row, ISO")
    test: datetime.date = Field(description="first test row, ISO, after val")
    end: datetime.date | None = Field(
        None, description="first row after the test rows, ISO, after test; null: all rows are used"
    )

    @field_validator("end")
    @classmethod
    def _ascending(cls, end: datetime.date | None, info: ValidationInfo) -> datetime.date | None:
        dates = [info.data.get(name) for name in ("train", "val", "test")] + [end]
        known = [date for date in dates if date is not None]
        if any(later <= earlier for earlier, later in itertools.pairwise(known)):
            raise ValueError(
                f"dates in the order train, val, test, end (these are {', '.join(map(str, known))})"
            )
        return end


class DataConfig(Section):
    """The source of the panel, and the split of its rows."""

    dataset: str = Field(
        "embedded",
        min_length=1,
        description="'embedded' (in a checkout only), 'synthetic' (simulated), a folder of FRED CSVs, a"
        " folder that tftjax.data build made, a CSV or Parquet file, or 'frame': a data frame that is handed"
        " over in Python",
    )
    feature_set: str | None = Field(
        None, min_length=1, description="a name in FEATURE_SETS; null: core_embedded, or what the data brings"
    )
    columns: ColumnsConfig | None = Field(
        None, description="roles of the columns of a table of one's own, in place of a feature_set"
    )
    series: dict[Annotated[str, Field(min_length=1)], SeriesConfig] = Field(
        {},
        description="series of one's own with release dates by name, each seen in a row as it was known on"
        " that day; they join the table or the raw series that data.dataset names, as observed columns",
    )
    wide: bool = Field(
        False,
        description="a table with a column a series and a row a date: every column but the dates has the"
        " target of the series of its name; data.columns.target and data.columns.id name what is made of it",
    )
    return_unit: Literal["decimal", "percent"] = Field(
        "decimal",
        description="unit of returns in the source, and of what predict writes: 0.01 or 1.0 for one percent",
    )
    target_transform: Literal["none", "as_is", "return", "log_return", "difference"] = Field(
        "none",
        description="what is forecast of a table's target column: the returns that it holds, refused if they"
        ' look like a price or a level; "as_is": the level itself, such as a volatility or a spread; or'
        " changes of the price or level from row to row",
    )
    frequency: Literal["daily", "weekly", "monthly", "quarterly"] | None = Field(
        None,
        description="frequency of the rows; null: that of the data. Daily rows are brought to a lower one:"
        " the target's returns compounded, other columns as last known",
    )
    calendar: str | None = Field(
        None,
        min_length=1,
        description='the days that can have a row: "weekdays", "24/7", a week of seven 0 and 1 from Monday'
        ' on, or an exchange such as "XNYS" (needs the extra calendars); null: found from the rows',
    )
    events: dict[
        Annotated[str, Field(min_length=1)], Annotated[tuple[datetime.date, ...], Field(min_length=1)]
    ] = Field(
        {}, description="ISO dates of scheduled events by name, for days_to_NAME in data.columns.known_real"
    )
    alignment: Literal["vintage", "fixed"] = Field(
        "vintage",
        description="when a raw value is seen: from its release date on, or a fixed lag after its date",
    )
    vintage: Literal["first", "latest"] = Field(
        "first",
        description="which value of a revised one is used: the first published, or the last known on a day",
    )
    lags: dict[str, Annotated[int, Field(ge=0, le=3660)]] = Field(
        {}, description='by raw series, days after its date under alignment "fixed"; else the table\'s'
    )
    start: datetime.date | None = Field(None, description="first date used, ISO; null: the first of the data")
    end: datetime.date | None = Field(
        None, description="last date used, ISO, later than start; null: the last of the data"
    )
    split: tuple[Fraction, Fraction, Fraction] = Field(
        (0.70, 0.15, 0.15), description="fractions of the rows, in time order: train, validation, test"
    )

    @field_validator("columns")
    @classmethod
    def _columns_or_feature_set(
        cls, columns: ColumnsConfig | None, info: ValidationInfo
    ) -> ColumnsConfig | None:
        if columns is not None and info.data.get("feature_set") is not None:
            raise ValueError("null, or data.feature_set left out: both give the columns their roles")
        return columns

    split_dates: SplitDates | None = Field(
        None, description="first dates of the splits, in place of fractions"
    )
    purge: Annotated[int, Field(ge=0, le=10_000)] | None = Field(
        None,
        description="rows left out at the end of train and validation; null: 0 with fractions,"
        " model.prediction_length with dates",
    )
    val_blocks: int = Field(
        1,
        ge=1,
        le=1000,
        description="blocks of validation rows; with 4 and a year of validation, the last quarter of each of"
        " the last four years before the test rows. Scalers and baselines are fitted on all rows before the"
        " last block, so that no combination with baselines is made",
    )
    train_on_val: bool = Field(
        False,
        description="validation rows are train rows too, and say nothing about other rows: what --refit sets;"
        " needs train.keep 'last' and one block of validation",
    )
    final_fit: bool = Field(
        False,
        description="all rows are train rows, from data.split_dates.train on, and none validates or tests:"
        " what --final sets",
    )
    unseen: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (),
        description="names of series that training and validation never see; the test rows are theirs alone,"
        " and show how the model forecasts series that are new to it. Baselines learn from the earlier rows"
        " of these series all the same. Needs train.static_dropout",
    )
    missing: Literal["refuse", "mask"] = Field(
        "refuse",
        description="what an observed column's missing value is: an error, or without selection weight",
    )
    missing_known: Literal["refuse", "mask"] = Field(
        "refuse",
        description="what a known number's missing value is, most often of a step ahead: an error, or unknown"
        " to the network, which is told so by an indicator beside the number",
    )
    max_gap: int = Field(
        30,
        ge=1,
        le=100_000,
        description="longest gap in business days (by data.calendar: days, or sessions), between two values"
        " of a daily raw series or two rows of a table of one's own; a longer one is an error, unless it is"
        " the usual distance of monthly or quarterly rows. A built panel was checked when it was built",
    )
    scaling: dict[str, Literal["standard", "robust", "none"]] = Field(
        {}, description='by column, how it is scaled; "standard" for all others'
    )
    volatility: str | None = Field(
        None,
        min_length=1,
        description="the observed column that counts as implied volatility, for baselines, scales and what is"
        " calm or stormy; null: VIX or Realized_Vol_21d, if there is one",
    )
    target_scale: str = Field(
        "none",
        pattern=r"^(none|ewma|gjr|log_scale|pooled_log_scale|column:.+)$",
        description='what the target is divided by, undone on output; its logarithm is an input: "none",'
        ' "ewma" (its moving volatility), "gjr" (GJR-GARCH), "log_scale" (a regression of log volatility),'
        ' both fitted on the train rows of each series, "pooled_log_scale" (one regression of all series,'
        ' which holds for unseen ones too), or "column:VIX" (any positive observed column)',
    )

    @field_validator("target_scale")
    @classmethod
    def _scale_of_unseen_series(cls, target_scale: str, info: ValidationInfo) -> str:
        if info.data.get("unseen") and target_scale in OF_EACH_SERIES:
            raise ValueError(
                f"'pooled_log_scale', 'ewma' or a column with data.unseen: {target_scale!r} is fitted to each"
                " series that is trained on, so that unseen ones have none"
            )
        return target_scale

    scale_features: bool = Field(
        False,
        description="what the regression of log volatility looks at is an input too: past returns' sizes over"
        " 1 to 63 rows, volatility's level and changes, the next row's weekday; needs a data.target_scale",
    )

    @property
    def validates_alone(self) -> bool:
        """Whether nothing, baselines included, is fitted on validation rows."""
        return not self.train_on_val and self.val_blocks == 1

    @field_validator("scale_features")
    @classmethod
    def _features_of_a_scale(cls, scale_features: bool, info: ValidationInfo) -> bool:
        if scale_features and info.data.get("target_scale") == "none":
            raise ValueError("false, or set data.target_scale, such as to 'log_scale' (it is 'none')")
        return scale_features

    @field_validator("wide")
    @classmethod
    def _names_of_a_wide_table(cls, wide: bool, info: ValidationInfo) -> bool:
        columns = info.data.get("columns")
        if wide and (columns is None or columns.id is None):
            raise ValueError(
                "data.columns with a target, the name that the values get, and an id, the name that the names"
                ' of the series get, such as {"target": "ret", "id": "ticker"}'
            )
        return wide

    @field_validator("target_transform")
    @classmethod
    def _returns_are_decimals(cls, transform: str, info: ValidationInfo) -> str:
        if transform in ("return", "log_return") and info.data.get("return_unit") == "percent":
            raise ValueError(
                f"data.return_unit 'decimal' with {transform!r}: returns of a price are computed as decimals"
            )
        return transform

    @field_validator("vintage")
    @classmethod
    def _no_hindsight(cls, vintage: str, info: ValidationInfo) -> str:
        if vintage == "latest" and info.data.get("alignment") == "fixed":
            raise ValueError("'first' with data.alignment 'fixed': a later value would be hindsight")
        return vintage

    @field_validator("lags")
    @classmethod
    def _lags_have_effect(cls, lags: dict[str, int], info: ValidationInfo) -> dict[str, int]:
        if lags and info.data.get("alignment") == "vintage":
            raise ValueError("{}, or set data.alignment to 'fixed' (it is 'vintage')")
        return lags

    @field_validator("end")
    @classmethod
    def _start_before_end(cls, end: datetime.date | None, info: ValidationInfo) -> datetime.date | None:
        start = info.data.get("start")
        if start is not None and end is not None and start >= end:
            raise ValueError(f"a date after data.start ({start})")
        return end

    @field_validator("split")
    @classmethod
    def _sums_to_one(cls, split: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(math.fsum(split) - 1) > 1e-6:
            raise ValueError(f"three positive fractions that sum to 1 (these sum to {math.fsum(split):g})")
        return split
