"""Forecasts of the model in this folder, which `tftjax export` wrote: needs jax, numpy, flatbuffers."""

import json
import re
from hashlib import sha256
from pathlib import Path

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

    def forecast(rows, future):
        """Quantiles of the next steps by column; `future` has their dates, and what is known of them."""
        own, ahead = by_series(about, "rows", rows), by_series(about, "future", future)
        parts = [arrays(about, name, part, ahead.get(name, {})) for name, part in own.items()]
        returns = np.hstack([part[about["reals"][0]] for part in own.values()])
        ratio = np.nanstd(returns) / (about["spread"] or np.nan)
        require(not (ratio < 0.05 or ratio > 20), f"target: {ratio:.3g} times training's spread. Other unit?")
        dates, *arguments = (np.stack(part) for part in zip(*parts, strict=True))
        with jax.enable_x64(True):
            quantiles = np.asarray(run(*arguments)).reshape(dates.size, -1)
        require(np.isfinite(quantiles).all(), "no finite quantiles: found a value not above 0, or infinite")
        series = {"series": np.repeat(list(own), about["steps"]).tolist()} if about["id"] else {}
        levels = dict(zip(about["quantiles"], quantiles.T.tolist(), strict=True))
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


def text(cell, known):  # of a number's 1 and 1.0, the one that training had
    require(not re.fullmatch(r"None|<NA>|NaT|.*nan\)?|[({[].*|'\s*'", repr(cell)), f"found {cell!r}")
    return word if (word := str(cell).strip()) in known or isinstance(cell, str) else word.removesuffix(".0")


def arrays(about, name, rows, future):
    """The dates ahead and the program's arguments of one series."""
    steps, window, changes, columns = (about[key] for key in ("steps", "window", "changes", "columns"))
    values = {key: np.append(past, future.get(key, past[[-1] * steps])[:steps]) for key, past in rows.items()}
    dates = values[about["date"]]
    weekday, step = (dates.astype(np.int64) + 3) % 7, np.diff(dates).astype(int)
    ascending = len(step) + 1 == len(rows[about["date"]]) + steps and all(step > 0)
    require(ascending, f"dates of {name or 'rows'}: expected ascending ones, and {steps} in the future")
    values = {"day_of_week": weekday, "month": dates.astype("datetime64[M]").astype(int) % 12 + 1} | values
    reals, needed = np.stack([values[key] for key in about["reals"]], axis=1), about["complete"]
    beginning = np.isnan(reals).argmin(axis=0) * needed
    first = max(beginning[0] + changes, *beginning)  # a series' first level has no change
    holes = np.isnan(reals[first:]) & needed
    require(not holes.any(), f"{name}: rows without {np.array(about['reals'])[holes.any(axis=0)]}")
    reals[-steps:, [columns[key]["role"] not in ("known", "static") for key in about["reals"]]] = np.nan
    first, begun = first - changes, min(first - changes + about["lead"], len(dates) - 1)
    least = about["encoder_length" if str(dates[begun]) <= about["series"].get(name, "") else "least"]
    require(len(dates) - steps - begun >= least, f"{name}: too few rows, expected {least} complete ones")
    codes = np.full((window, len(about["codes"])), -1, np.int32)  # 0: an unknown category; -1: no row
    for place, (key, table) in enumerate(about["codes"].items()):
        codes[-len(dates) :, place] = [table.get(str(value), 0) for value in values[key][-window:]]
        require(codes[:, place].all() or columns[key]["unknown"], f"{name}: {key} not in {', '.join(table)}")
    if about["calendar"]:  # is the next row a Monday, a Friday, or does it come later than its weekday does
        following, reals = weekday[1:], np.hstack([reals, np.full((len(dates), 3), np.nan)])
        for row in range(max(begun, len(step) - window), len(step)):
            usual = np.median(step[begun : row + 1][following[begun : row + 1] == following[row]])
            reals[row, -3:] = following[row] == 0, following[row] == 4, step[row] > usual
    reals = reals[max(first, len(dates) - about["history"] - steps) :]
    reals = np.pad(reals, ((about["history"] + steps - len(reals), 0), (0, 0)), constant_values=np.nan)
    return dates[-steps:], reals, codes, np.int32([*about["series"], name].index(name))
