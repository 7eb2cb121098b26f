"""Folds of a walk-forward: configs are trained anew for every year, and judged on all years together.

    python -m tftjax.walkforward configs/control.json --first-test 2006 --last-test 2018 --seeds 3

A fold trains on `--train-years`, stops early on the `--val-years` after them, and is tested on the
`--test-years` after these; the next fold begins `--test-years` later, so that every test day is forecast
once. All folds and seeds are members of one sweep, in one compiled program where their shapes allow; each
is a run of its own, `members/<config>-<year>-s<seed>`, whose pictures `evaluate` draws on request. The files
of results are listed in `walkforward/results.py`.
"""

import datetime
import itertools
from collections.abc import Mapping, Sequence

import pandas as pd

from tftjax.config.data import SplitDates
from tftjax.config.loading import Config, from_dict
from tftjax.errors import UserError, both
from tftjax.sweep.plan import Member

HOLIDAYS = 31  # days that the data of a whole year may lack at its beginning and at its end


def with_folds(members: Sequence[Member], dates: Sequence[SplitDates]) -> list[Member]:
    """Every member in every fold, fold after fold.

    Raises:
      UserError: configs that forecast other quantiles, or a purge under which targets of two splits overlap.
    """
    for member in members:
        _check_walkable(member.config, members[0].config)
    result = []
    for fold, member in itertools.product(dates, members):
        year, raw = str(fold.test.year), member.config.model_dump(mode="json")
        raw["name"] = f"{member.group}-{year}-s{member.config.train.seed}"
        raw["data"]["split_dates"] = fold.model_dump(mode="json")
        config = from_dict(raw, f"member {raw['name']}")
        result.append(Member(config.name, member.group, config, year))
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
    """Refuses folds that would train on fewer years than they say.

    Args:
      days: days of the data's rows, by name of a member.
    Returns:
      Messages about folds whose test years end after the data.
    Raises:
      UserError: data that begin after a fold's train years do.
    """
    messages = {}
    for member in members:
        dates, index = member.config.data.split_dates, days[member.name]
        begins, ends = index.min(), index.max()
        if begins > pd.Timestamp(dates.train) + pd.Timedelta(days=HOLIDAYS):
            whole = begins.year + (begins.day_of_year > HOLIDAYS + 1)
            years, first = dates.val.year - whole, dates.test.year + whole - dates.train.year
            advice = [f"fewer {both('--train-years')} (at most {years} for this fold)"] if years > 0 else []
            advice += [f"a later {both('--first-test')} (at least {first})"] if first <= ends.year else []
            raise UserError(
                f"{member.name}: trains from {dates.train} on, but its data begin on {begins.date()} and end"
                f" on {ends.date()}. Give {' or '.join(advice) or 'data of more years'}."
            )
        if ends < pd.Timestamp(dates.end) - pd.Timedelta(days=HOLIDAYS):
            messages[member.fold] = f"fold {member.fold} is tested to {ends.date()}, where the data end"
    return list(messages.values())


def folds(
    first_test: int,
    last_test: int,
    *,
    train_years: int,
    val_years: int = 1,
    test_years: int = 1,
    step_years: int | None = None,
    expanding: bool = False,
) -> list[SplitDates]:
    """Walk-forward folds by calendar years: train, then validation, then test, moved on by a step.

    >>> [(fold.train.year, fold.val.year, fold.test.year) for fold in folds(2006, 2007, train_years=3)]
    [(2002, 2005, 2006), (2003, 2006, 2007)]

    Args:
      first_test, last_test: years in which the first and the last fold's test rows begin.
      step_years: years between two folds; None for `test_years`, so that the test years join up.
      expanding: whether all folds train from the first fold's first year on.
    Raises:
      UserError: lengths or years that give no fold.
    """
    step = test_years if step_years is None else step_years
    begin = first_test - val_years - train_years
    in_order = begin >= datetime.MINYEAR and first_test <= last_test <= datetime.MAXYEAR - max(test_years, 0)
    if min(train_years, val_years, test_years, step) < 1 or not in_order:
        raise UserError(
            f"folds: found train {train_years}, val {val_years}, test {test_years}, step {step} years and"
            f" tests from {first_test} to {last_test}, expected lengths of at least 1 and years in order."
        )

    def january(year: int) -> datetime.date:
        return datetime.date(year, 1, 1)

    return [
        SplitDates(
            train=january(begin if expanding else year - val_years - train_years),
            val=january(year - val_years),
            test=january(year),
            end=january(year + test_years),
        )
        for year in range(first_test, last_test + 1, step)
    ]
