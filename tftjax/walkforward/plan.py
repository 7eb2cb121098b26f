"""Folds of a walk-forward: configs are trained anew for every test period, and judged on all together.

    python -m tftjax.walkforward configs/control.json --first-test 2006 --last-test 2018 --seeds 3

A fold trains on `--train-years`, stops early on the `--val-years` after them, and is tested on the
`--test-years` after these, each of which can be given in months. The next fold begins where the test ends,
or later (`--stride-months`), so that no test day is forecast twice. All folds and seeds are members of one
sweep, in one compiled program where their shapes allow; each is a run of its own,
`members/<config>-<fold>-s<seed>`, whose pictures `evaluate` draws on request. The files of results are listed
in `walkforward/results.py`.
"""

import datetime
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from tftjax.config.data import SplitDates
from tftjax.config.loading import Config, from_dict
from tftjax.errors import UserError, both
from tftjax.storage.directories import SweepDirectory
from tftjax.sweep.plan import Member

HOLIDAYS = 31  # days that the data of a whole year may lack at its beginning and at its end
HOLIDAYS_OF_A_MONTH = 7  # of months and quarters, at their end
YEAR = 12  # months
# Defaults, in years.
TRAIN_YEARS, VAL_YEARS, TEST_YEARS = 10, 1, 1


def with_folds(
    members: Sequence[Member],
    dates: Sequence[SplitDates],
    folder: Path | None = None,
    test_months: int | None = None,
) -> list[Member]:
    """Every member in every fold, fold after fold.

    Args:
      folder: the walk-forward's, for a warm start: from the second fold on, a member starts from the best
        parameters of the fold before. None: every fold is drawn by its seed.
      test_months: months of each test of a fold; None: a fold is tested once.
    Raises:
      UserError: configs that forecast other quantiles, or a purge under which targets of two splits overlap.
    """
    for member in members:
        _check_walkable(member.config, members[0].config)
    by_year, result = all(fold.test.month == 1 for fold in dates), []
    for place, (fold, member) in enumerate(itertools.product(dates, members)):
        name = f"{fold.test:%Y}" if by_year else f"{fold.test:%Y-%m}"
        raw = member.config.model_dump(mode="json")
        raw["name"] = f"{member.group}-{name}-s{member.config.train.seed}"
        raw["data"]["split_dates"] = fold.model_dump(mode="json")
        if folder is not None and place >= len(members):
            before = result[place - len(members)]
            raw["train"]["init_from"] = str(SweepDirectory(folder).member(before.name).path)
        config = from_dict(raw, f"member {raw['name']}")
        first, stop = _number(fold.test), _number(fold.end)
        begins = range(first, stop, test_months or stop - first)
        result.append(
            Member(config.name, member.group, config, name, tuple(str(_first_day(n)) for n in begins))
        )
    return result


def _check_walkable(config: Config, first: Config) -> None:
    purge, steps = config.data.purge, config.model.prediction_length
    if purge is not None and purge < steps:
        raise UserError(
            f"{config.name}: found data.purge {purge}, expected null or at least model.prediction_length"
            f" ({steps}): the targets of a fold's train, validation and test windows would overlap."
        )
    if config.model.quantiles != first.model.quantiles:
        raise UserError(
            f"{first.name} and {config.name} forecast the quantiles {first.model.quantiles} and"
            f" {config.model.quantiles}, whose pinball losses do not compare. Give them the same"
            " model.quantiles."
        )


def check_history(members: Sequence[Member], days: Mapping[str, pd.DatetimeIndex]) -> list[str]:
    """Refuses folds that would train on fewer months than they say.

    Args:
      days: days of the data's rows, by name of a member.
    Returns:
      Messages about folds whose test rows end after the data.
    Raises:
      UserError: data that begin after a fold's train rows do.
    """
    messages = {}
    for member in members:
        dates, index = member.config.data.split_dates, days[member.name]
        begins, ends = index.min(), index.max()
        if begins > pd.Timestamp(dates.train) + pd.Timedelta(days=HOLIDAYS):
            raise UserError(
                f"{member.name}: trains from {dates.train} on, but its data begin on {begins.date()} and end"
                f" on {ends.date()}. Give {_remedy(dates, begins, ends)}."
            )
        whole_year = _number(dates.end) - _number(dates.test) >= YEAR
        slack = pd.Timedelta(days=HOLIDAYS if whole_year else HOLIDAYS_OF_A_MONTH)
        if ends < pd.Timestamp(dates.end) - slack:
            messages[member.fold] = f"fold {member.fold} is tested to {ends.date()}, where the data end"
    return list(messages.values())


def _remedy(dates: SplitDates, begins: pd.Timestamp, ends: pd.Timestamp) -> str:
    """The shorter training or the later first test with which data would do, in words."""
    whole = _number(begins - pd.Timedelta(days=HOLIDAYS)) + 1
    train, val, test = map(_number, (dates.train, dates.val, dates.test))
    by_year = not any((number - test) % YEAR for number in (train, val)) and dates.test.month == 1
    unit, flag = (YEAR, "--train-years") if by_year else (1, "--train-months")
    most = (val - whole) // unit
    first = test + unit * -((train - whole) // unit)
    advice = [f"fewer {both(flag)} (at most {most} for this fold)"] if most > 0 else []
    if first <= _number(ends):
        advice.append(
            f"a later {both('--first-test')} (at least {_text(first) if not by_year else first // YEAR})"
        )
    return " or ".join(advice) or "data of more years"


def _number(date: datetime.date) -> int:
    """The number of a date's month."""
    return YEAR * date.year + date.month - 1


def _first_day(number: int) -> datetime.date:
    return datetime.date(number // YEAR, number % YEAR + 1, 1)


def _text(number: int) -> str:
    """A month as it is given: YYYY-MM."""
    return f"{number // YEAR:04}-{number % YEAR + 1:02}"


def _months_of(given: int | str, name: str) -> tuple[int, int]:
    """The numbers of the first and the last month of a year, or of a month given as YYYY-MM."""
    year, dash, month = str(given).partition("-")
    if not (year.isdecimal() and len(year) <= 4 and int(year)) or isinstance(given, bool):
        month = "no month"
    if dash and month.isdecimal() and 1 <= int(month) <= YEAR:
        return (YEAR * int(year) + int(month) - 1,) * 2
    if dash or month:
        raise UserError(
            f"{both(name)}: found {given!r}, expected a year such as 2006, or a month such as 2006-04."
        )
    return YEAR * int(year), YEAR * int(year) + YEAR - 1


def last_whole(days: pd.DatetimeIndex, test_years: int, test_months: int | None) -> str:
    """The last month in which a test can begin that the data have whole, but for a week of holidays."""
    length = YEAR * test_years if test_months is None else test_months
    return _text(_number(days.max() + pd.Timedelta(days=HOLIDAYS_OF_A_MONTH)) - length)


def _check_stride(stride: int, test: int, train_every: int) -> None:
    """Refuses tests that overlap, or that one training would forecast with days between them."""
    if stride < test:
        raise UserError(
            f"{both('--stride-months')}: found {stride}, expected at least the {test} months of a test: days"
            " would be forecast twice."
        )
    if train_every > 1 and stride > test:
        raise UserError(
            f"{both('--train-every')}: found {train_every} with a stride of {stride} and tests of {test}"
            " months, expected 1: one training forecasts days that follow each other."
        )


def folds(
    first_test: int | str,
    last_test: int | str,
    *,
    train_years: int = TRAIN_YEARS,
    val_years: int = VAL_YEARS,
    test_years: int = TEST_YEARS,
    train_months: int | None = None,
    val_months: int | None = None,
    test_months: int | None = None,
    stride_months: int | None = None,
    train_every: int = 1,
    expanding: bool = False,
) -> list[SplitDates]:
    """Walk-forward folds by calendar months: train, then validation, then test, moved on by a stride.

    >>> [(fold.train.year, fold.val.year, fold.test.year) for fold in folds(2006, 2007, train_years=3)]
    [(2002, 2005, 2006), (2003, 2006, 2007)]
    >>> [str(fold.test) for fold in folds("2006-11", "2007-02", test_months=1, train_every=2)]
    ['2006-11-01', '2007-01-01']

    Args:
      first_test, last_test: years, or months as YYYY-MM, in which the first and the last test begin.
      train_months, val_months, test_months: lengths in months, in place of those in years.
      stride_months: months from one test to the next; None for the test's length, so that they join up.
      train_every: number of tests that one training forecasts, one after another, before the next training.
      expanding: whether all folds train from the first fold's first month on.
    Returns:
      A fold a training.
    Raises:
      UserError: lengths or months that give no fold, or tests that overlap.
    """
    (first, _), (_, last) = _months_of(first_test, "--first-test"), _months_of(last_test, "--last-test")
    years, months = (train_years, val_years, test_years), (train_months, val_months, test_months)
    lengths = [YEAR * whole if own is None else own for whole, own in zip(years, months, strict=True)]
    train, val, test = lengths
    stride = test if stride_months is None else stride_months
    begin = first - val - train
    in_order = begin >= YEAR * datetime.MINYEAR and first <= last <= YEAR * datetime.MAXYEAR - max(test, 0)
    if min(*lengths, stride, train_every) < 1 or not in_order:
        raise UserError(
            f"folds: found train {train}, val {val}, test {test}, stride {stride} months, a training for"
            f" every {train_every} tests, and tests from {first_test} to {last_test}; expected numbers of at"
            " least 1 and tests in order."
        )
    _check_stride(stride, test, train_every)
    begins = range(first, last + 1, stride)
    groups = [begins[place : place + train_every] for place in range(0, len(begins), train_every)]
    return [
        SplitDates(
            train=_first_day(begin if expanding else group[0] - val - train),
            val=_first_day(group[0] - val),
            test=_first_day(group[0]),
            end=_first_day(group[-1] + test),
        )
        for group in groups
    ]
