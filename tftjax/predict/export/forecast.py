"""Forecasts of the model in this folder, which `tftjax export` wrote: needs jax, numpy, flatbuffers."""

import json
import re
import warnings
from hashlib import sha256
from pathlib import Path
from statistics import NormalDist

import jax
import numpy as np
from jax import export


def load(folder=Path(__file__).parent):
    """Reads model.json and program.bin; what it returns is compiled at its first call."""
    try:
        about = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))
        program, digest = (Path(folder) / "program.bin").read_bytes(), about.pop("sha256")
        require(sha256(json.dumps(about, sort_keys=True).encode() + program).hexdigest() == digest, "changed")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder}: no exported model, or a damaged one ({error}); export anew") from error
    run = jax.jit(export.deserialize(bytearray(program)).call)

    def quantiles_of(*arguments):
        with jax.enable_x64(True):
            quantiles = np.asarray(run(*arguments))
        require(np.isfinite(quantiles).all(), "no finite quantiles: found a value not above 0, or infinite")
        return quantiles

    def forecast(rows, future, conformal="none"):
        """Quantiles of the next steps by column; `future` has their dates, and what is known of them.

        `conformal` calibrates them: "split", or "adaptive", which follows the outcomes up to the last row.
        """
        own, ahead = by_series(about, "rows", rows), by_series(about, "future", future)
        shifts = shifts_of(about, conformal)
        series = {name: joined(about, name, part, ahead.get(name, {})) for name, part in own.items()}
        parts = [arrays(about, name, values) for name, values in series.items()]
        returns = np.hstack([part[about["reals"][0]] for part in own.values()])
        ratio = np.nanstd(returns) / (about["spread"] or np.nan)
        require(not (ratio < 0.05 or ratio > 20), f"target: {ratio:.3g} times training's spread. Other unit?")
        dates, _, *arguments = (np.stack(part) for part in zip(*parts, strict=True))
        quantiles = quantiles_of(*arguments)
        if conformal == "adaptive":
            shifts = tracked(about, series, shifts, quantiles_of)
        if conformal != "none":
            quantiles = np.sort(quantiles + shifts * spreads(about, quantiles))
        series = {"series": np.repeat(list(own), about["steps"]).tolist()} if about["id"] else {}
        levels = dict(zip(about["quantiles"], quantiles.reshape(dates.size, -1).T.tolist(), strict=True))
        return {"date": dates.ravel().astype(str).tolist(), **series, **levels}

    return forecast


def require(condition, message):
    if not condition:
        raise ValueError(message)


def by_series(about, which, rows):
    """The columns of each series by its name; one empty name where there is but one."""
    date, series, tables, columns = about["date"], about["id"], {about["date"]: ()} | about["codes"], {}
    for key in about["needed"][which]:
        require(key in rows, f"{which}: no column {key!r}")
        try:
            cells, known = np.fromiter(rows[key], object), tables.get(key)
            columns[key] = cells.astype(float) if known is None else np.array([text(x, known) for x in cells])
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{which}: {key}: {error}") from error
    lengths = {key: len(cells) for key, cells in columns.items()}
    require({*lengths.values()} == {lengths[date] or None}, f"{which}: found columns of {lengths} rows")
    wrong = [x for x in columns[date] if not re.fullmatch(r"\d{4}(-\d\d){2}([T ]00:00[:.0]*([Z+-].*)?)?", x)]
    require(not wrong, f"{which}: {date}: found {''.join(wrong[:1])}, expected YYYY-MM-DD, no time of day")
    columns[date] = columns[date].astype("U10").astype("datetime64[D]")
    names = columns[series] if series else np.full(lengths[date], "")
    return {one: {key: cells[names == one] for key, cells in columns.items()} for one in sorted({*names})}


def text(cell, known):  # of 1 and 1.0, the one that training had
    require(not re.fullmatch(r"None|<NA>|NaT|.*nan\)?|[({[].*|'\s*'", repr(cell)), f"found {cell!r}")
    word = str(cell).strip()
    whole = re.sub(r"^(-?(0|[1-9]\d*))\.0+$", r"\1", word)
    return next((one for one in (word, whole, f"{whole}.0") if one in known), whole)


def joined(about, name, rows, future):
    """The columns of one series, the steps ahead after its rows."""
    steps, date = about["steps"], about["date"]
    values = {key: np.append(past, future.get(key, past[[-1] * steps])[:steps]) for key, past in rows.items()}
    ascending = len(values[date]) == len(rows[date]) + steps and all(np.diff(values[date]).astype(int) > 0)
    require(ascending, f"dates of {name or 'rows'}: expected ascending ones, and {steps} in the future")
    return values


def arrays(about, name, values):
    """The dates ahead, the first row that has all columns, and the program's arguments of one series."""
    steps, window, changes, columns = (about[key] for key in ("steps", "window", "changes", "columns"))
    dates, where = values[about["date"]], name or "rows"
    weekday, step = (dates.astype(np.int64) + 3) % 7, np.diff(dates).astype(int)
    values = {"day_of_week": weekday, "month": dates.astype("datetime64[M]").astype(int) % 12 + 1} | values
    reals, needed = np.stack([values[key] for key in about["reals"]], axis=1), about["complete"]
    beginning = np.isnan(reals).argmin(axis=0) * needed
    first = max(beginning[0] + changes, *beginning)  # a series' first level has no change
    holes = np.isnan(reals[first:]) & needed
    require(not holes.any(), f"{where}: rows without {np.array(about['reals'])[holes.any(axis=0)]}")
    reals[-steps:, [columns[key]["role"] not in ("known", "static") for key in about["reals"]]] = np.nan
    first, begun = first - changes, min(first - changes + about["lead"], len(dates) - 1)
    least = about["encoder_length" if str(dates[begun]) <= about["series"].get(name, "") else "least"]
    few = len(dates) - steps - begun
    require(few >= least, f"{where}: too few rows: found {max(few, 0)}, expected {least} complete ones")
    codes = np.full((window, len(about["codes"])), -1, np.int32)  # 0: an unknown category; -1: no row
    for place, (key, table) in enumerate(about["codes"].items()):
        last = [str(value) for value in values[key][-window:]]
        codes[-len(dates) :, place] = [table.get(value, 0) for value in last]
        unknown = f"{where}: {key} {', '.join(sorted({*last} - {*table})[:5])} not in {', '.join(table)}"
        require(codes[:, place].all() or columns[key]["unknown"], unknown)
        if not codes[:, place].all():
            warnings.warn(f"{unknown}: counts as unknown", stacklevel=3)
    if about["calendar"]:  # is the next row a Monday, a Friday, or does it come later than its weekday does
        following, reals = weekday[1:], np.hstack([reals, np.full((len(dates), 3), np.nan)])
        for row in range(max(begun, len(step) - window), len(step)):
            usual = np.median(step[begun : row + 1][following[begun : row + 1] == following[row]])
            reals[row, -3:] = following[row] == 0, following[row] == 4, step[row] > usual
    reals = reals[max(first, len(dates) - about["history"] - steps) :]
    reals = np.pad(reals, ((about["history"] + steps - len(reals), 0), (0, 0)), constant_values=np.nan)
    return dates[-steps:], begun, reals, codes, np.int32([*about["series"], name].index(name))


def shifts_of(about, conformal):
    """The shifts of each step and quantile, in spreads of the forecast, that validation rows called for."""
    kept, methods = about["conformal"], ("none", "split", "adaptive")
    require(conformal in methods, f"conformal: found {conformal!r}, expected one of {', '.join(methods)}")
    require(conformal == "none" or "shifts" in kept, f"no calibration: {kept.get('missing')}")
    return np.array(kept.get("shifts", 0.0))


def spreads(about, quantiles):
    """The standard deviation of the normal distribution with a forecast's outer quantiles."""
    outer = [NormalDist().inv_cdf(float(about["quantiles"][place])) for place in (0, -1)]
    wide = quantiles[..., -1:] - quantiles[..., :1]
    return wide / (outer[1] - outer[0]) if outer[1] > outer[0] else np.ones_like(quantiles)


def tracked(about, series, shifts, quantiles_of, together=64):
    """The shifts of each series' next forecast, which have followed the outcomes since training's rows."""
    steps, kept, windows, last = about["steps"], about["conformal"], [], []
    for name, values in series.items():
        stop, begun = len(values[about["date"]]) - steps, arrays(about, name, values)[1]
        since = np.searchsorted(values[about["date"]], np.datetime64(kept["since"]), "right")
        windows += [(name, row) for row in range(min(max(since, begun + kept["rows"]), stop), stop + 1)]
        last.append(len(windows) - 1)
    made, known, outcome, quantiles = [], [], [], []
    for begin in range(0, len(windows), together):  # one program, however many there are
        part = windows[begin : begin + together]
        parts = [
            arrays(about, name, {key: cells[: row + steps] for key, cells in series[name].items()})[2:]
            for name, row in part + part[-1:] * (together - len(part))
        ]
        quantiles.append(quantiles_of(*map(np.stack, zip(*parts, strict=True)))[: len(part)])
    came = {name: (values[about["date"]], outcomes(about, values)) for name, values in series.items()}
    for name, row in windows:
        dates, values = came[name]
        made.append(dates[row - 1])
        known.append(dates[row : row + steps])
        outcome.append(values[row : row + steps])
    quantiles, made, known, outcome = map(np.array, (np.concatenate(quantiles), made, known, outcome))
    spread = spreads(about, quantiles)
    scores = (outcome[..., None] - quantiles) / np.where(spread > 0, spread, np.nan)
    levels = np.array(about["quantiles"], float)
    middles = np.array([NormalDist().inv_cdf(level) for level in levels])
    pace = np.sqrt(2 * np.pi) * np.exp(middles**2 / 2) / kept["memory"]
    at = np.tile(shifts, (len(windows), 1, 1))
    for step in range(steps):
        shift, there = shifts[step], ~np.isnan(scores[:, step, 0])
        for day in np.unique(np.append(made, known[there, step])):
            learned = there & (known[:, step] == day)
            if learned.any():
                shift = shift + pace * (levels - (scores[learned, step] <= at[learned, step]).mean(axis=0))
            at[made == day, step] = shift
    return at[last]


def outcomes(about, values):
    """What is forecast, of each row; NaN in the steps ahead."""
    now = values[about["reals"][0]].copy()
    now[-about["steps"] :] = np.nan
    before = np.append(np.nan, now[:-1])
    changes = {
        "return": lambda: now / before - 1,
        "log_return": lambda: np.log(now / before),
        "difference": lambda: now - before,
    }
    return changes.get(about["transform"], lambda: now)()
