"""Forecasts of the model in this folder, which `tftjax export` wrote: needs jax, numpy, flatbuffers."""

import hashlib
import json
from pathlib import Path

import jax
import numpy as np
from jax import export


def load(folder=Path(__file__).parent):
    """Reads model.json and program.bin; what it returns is compiled at its first call."""
    try:
        about = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))
        program, digest = (Path(folder) / "program.bin").read_bytes(), about.pop("sha256")
        found = hashlib.sha256(json.dumps(about, sort_keys=True).encode() + program).hexdigest()
        require(found == digest, "model.json and program.bin are not as they were written")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder}: no exported model, or a damaged one ({error}); export anew") from error
    run = jax.jit(export.deserialize(bytearray(program)).call)

    def forecast(rows, future):
        """Quantiles of the next steps, as lists by column.

        Takes columns by name: `rows` of the past, `future` with the steps' dates and what is known of them.
        """
        own, ahead = by_series(about, rows), by_series(about, future)
        require(own.keys() <= ahead.keys(), f"future: no row of {', '.join(own.keys() - ahead.keys())}")
        parts = [arrays(about, name, own[name], ahead[name]) for name in own]
        ratio = np.nanstd(np.asarray(rows[about["reals"][0]], float)) / (about["spread"] or np.nan)
        other_unit = ratio < 1 / 20 or ratio > 20
        require(not other_unit, f"{about['reals'][0]}: {ratio:.3g} times training's spread: another unit?")
        dates, *arguments = (np.stack(part) for part in zip(*parts, strict=True))
        with jax.enable_x64(True):
            quantiles = np.asarray(run(*arguments)).reshape(dates.size, -1)
        require(np.isfinite(quantiles).all(), "no finite quantiles: found a value not above 0, or infinite")
        series = {"series": np.repeat(list(own), about["steps"]).tolist()} if about["id"] else {}
        table = {"date": dates.ravel().astype(str).tolist(), **series}
        return table | dict(zip(about["quantiles"], quantiles.T.tolist(), strict=True))

    return forecast


def require(condition, message):
    if not condition:
        raise ValueError(message)


def by_series(about, rows):
    """The columns of each series by its name; one empty name where there is but one."""
    columns = {name: np.asarray(rows[name]) for name in (about["date"], *about["columns"]) if name in rows}
    require({about["date"], about["id"]} <= {None, *columns}, f"{about['date']} or {about['id']}: no column")
    columns[about["date"]] = dates = columns[about["date"]].astype("datetime64[D]")
    series = columns[about["id"]].astype(str) if about["id"] else np.full(len(dates), "")
    return {one: {key: part[series == one] for key, part in columns.items()} for one in sorted({*series})}


def arrays(about, name, rows, future):
    """The dates ahead and the program's arguments of one series."""
    steps, window, changes, columns = (about[key] for key in ("steps", "window", "changes", "columns"))
    require(name in about["series"] or about["unseen"], f"series {name}: not in {', '.join(about['series'])}")
    dates = np.append(rows[about["date"]], future[about["date"]][:steps])
    right = len(dates) == len(rows[about["date"]]) + steps and np.all(np.diff(dates) > np.timedelta64(0))
    require(right, f"dates of {name or 'rows'}: expected ascending ones, and {steps} in the future")
    weekday, values = (dates.astype(np.int64) + 3) % 7, {}
    made = {"day_of_week": weekday, "month": dates.astype("datetime64[M]").astype(np.int64) % 12 + 1}
    for key, column in columns.items():
        role = column["role"]
        needed = () if role == "made" else (rows, future) if role == "known" else (rows,)
        require(all(key in part for part in needed), f"{name or 'rows'}, future: no column {key!r}")
        nothing = [rows[key][-1] if role == "static" else np.nan] * steps
        ahead = future[key][:steps] if role == "known" else nothing
        values[key] = made[key] if role == "made" else np.append(rows[key], ahead)
    reals = np.stack([values[key].astype(float) for key in about["reals"]], axis=1)
    needed = np.array([not columns[key]["missing"] for key in about["reals"]])
    beginning = np.isnan(reals).argmin(axis=0) * needed
    first = max(beginning[0] + changes, *beginning)  # a series' first level has no change
    holes = np.isnan(reals[first:]) & needed
    holes[-steps:] &= [columns[key]["role"] == "known" for key in about["reals"]]
    require(not holes.any(), f"{name}: rows without {np.array(about['reals'])[holes.any(axis=0)]}")
    first, begun = first - changes, min(first - changes + about["lead"], len(dates) - 1)
    least = about["encoder_length" if str(dates[begun]) <= about["series"].get(name, "") else "least"]
    require(len(dates) - steps - begun >= least, f"{name}: too few rows, expected {least} complete ones")
    codes = np.zeros((window, len(about["codes"])), np.int32)  # 0: an unknown category
    for place, key in enumerate(about["codes"]):
        table = {str(value): code for code, value in enumerate(columns[key]["values"], 1)}
        codes[:, place] = [table.get(str(value), 0) for value in values[key][-window:]]
        require(codes[:, place].all() or columns[key]["unknown"], f"{name}: {key} not in {', '.join(table)}")
    if about["calendar"]:  # is the next row a Monday, a Friday, or does it come later than its weekday does
        step, following, marks = np.diff(dates), weekday[1:], np.full((len(dates), 3), np.nan)
        for row in range(max(begun, len(step) - window), len(step)):
            usual = np.median(step[begun : row + 1][following[begun : row + 1] == following[row]].astype(int))
            marks[row] = following[row] == 0, following[row] == 4, step[row].astype(int) > usual
        reals = np.hstack([reals, marks])
    reals = reals[max(first, len(dates) - about["history"] - steps) :]
    reals = np.pad(reals, ((about["history"] + steps - len(reals), 0), (0, 0)), constant_values=np.nan)
    return dates[-steps:], reals, codes, np.int32([*about["series"], name].index(name))
