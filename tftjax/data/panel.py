"""The panel: one row a trading day, one column a feature, each holding only what was known on that day."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tftjax.config import UserError
from tftjax.data.alignment import days
from tftjax.files import replace_text, write_json

PANEL_FILES = ("panel.csv", "staleness.csv", "panel.json")  # of `write_panel`
ROLES = ("observed", "known_real", "known_categorical", "static_real", "static_categorical")
MAX_UNIT_FACTOR = 5.0  # between the train target's standard deviation and loss.target_std


@dataclass(frozen=True, eq=False)
class Panel:
    """A table of features with their roles.

    `frame` [N rows]: ascending dates; a float64 column a real feature, an int or str column a categorical.
    `observed` are real and hold the target's own history first; the static columns are constant. `staleness`
    [N rows]: days since the release of each low-frequency column's value. `messages`: what was dropped, which
    rules were used. `fingerprint`: sha256 of dates, column names and values. `about`: how it was
    made, such as feature set, alignment and units; JSON.
    """

    frame: pd.DataFrame
    target: str
    observed: tuple[str, ...]
    known_real: tuple[str, ...]
    known_categorical: tuple[str, ...]
    static_real: tuple[str, ...]
    static_categorical: tuple[str, ...]
    staleness: pd.DataFrame
    messages: tuple[str, ...]
    fingerprint: str
    about: dict


def make_panel(
    frame: pd.DataFrame,
    *,
    target: str,
    observed: tuple[str, ...],
    known_real: tuple[str, ...] = (),
    known_categorical: tuple[str, ...] = (),
    static_real: tuple[str, ...] = (),
    static_categorical: tuple[str, ...] = (),
    staleness: pd.DataFrame | None = None,
    messages: tuple[str, ...] = (),
    about: dict | None = None,
) -> Panel:
    """A checked panel with its fingerprint; columns without a role are left out.

    Raises: UserError if a column is missing, dates are not ascending, or a static column is not constant.
    """
    if not observed or observed[0] != target:
        raise UserError(f"panel: found observed columns {observed}, expected the target {target!r} first.")
    static = static_real + static_categorical
    columns = list(observed + known_real + known_categorical + static)
    missing = [name for name in columns if name not in frame]
    if missing or len(set(columns)) < len(columns):
        raise UserError(f"panel: columns {missing} are missing or one of {columns} has two roles.")
    if not (frame.index.is_monotonic_increasing and frame.index.is_unique):
        raise UserError("panel: found dates that are not ascending, expected each once, in order.")
    frame = frame[columns].rename_axis("date")
    for name in static:
        if frame[name].nunique(dropna=False) != 1:
            raise UserError(
                f"panel: the static column {name!r} has {frame[name].nunique(dropna=False)} values, expected"
                " the same one in every row. Make it a known or an observed column, or correct it."
            )
    if staleness is None:
        staleness = pd.DataFrame(index=frame.index)
    return Panel(
        frame=frame,
        target=target,
        observed=observed,
        known_real=known_real,
        known_categorical=known_categorical,
        static_real=static_real,
        static_categorical=static_categorical,
        staleness=staleness,
        messages=messages,
        fingerprint=fingerprint(frame),
        about=about or {},
    )


def fingerprint(frame: pd.DataFrame) -> str:
    """sha256 over the dates, the column names and the values' bytes, as hexadecimal text."""
    digest = hashlib.sha256(days(frame.index).astype("<i8").tobytes())
    for name in frame.columns:
        values = frame[name].to_numpy()
        if values.dtype.kind == "f":
            content = values.astype("<f8").tobytes()
        elif values.dtype.kind in "iu":
            content = values.astype("<i8").tobytes()
        else:
            content = "\0".join(map(str, values)).encode()
        digest.update(f"\n{name}\n".encode() + content)
    return digest.hexdigest()


def write_panel(directory: Path, panel: Panel) -> None:
    """Writes panel.csv, staleness.csv (where there is a low-frequency column) and panel.json.

    Raises: UserError if they cannot be written.
    """
    replace_text(directory / "panel.csv", panel.frame.to_csv())
    if len(panel.staleness.columns):
        replace_text(directory / "staleness.csv", panel.staleness.to_csv())
    roles = {role: list(getattr(panel, role)) for role in ROLES}
    content = {"target": panel.target, **roles, "messages": list(panel.messages), "about": panel.about}
    content["staleness"] = list(panel.staleness.columns)
    content["text"] = [name for name in panel.frame if panel.frame[name].dtype.kind not in "fiu"]
    write_json(directory / "panel.json", content | {"fingerprint": panel.fingerprint})


def read_panel(directory: Path) -> Panel:
    """Reads what `write_panel` wrote.

    Raises: UserError if it is missing or not as it was written.
    """
    path = directory / "panel.csv"
    advice = "Bring a copy back, or make it again."
    try:
        about = json.loads((directory / "panel.json").read_text(encoding="utf-8"))
        roles = {role: tuple(about[role]) for role in ROLES}
        real = (*roles["observed"], *roles["known_real"], *roles["static_real"])
        frame = _read_rows(path, dict.fromkeys(real, float) | dict.fromkeys(about.get("text", ()), str))
        staleness = pd.DataFrame(index=frame.index)
        if about.get("staleness"):
            staleness = _read_rows(directory / "staleness.csv", {})[about["staleness"]]
            if not staleness.index.equals(frame.index):
                raise ValueError("staleness.csv has other rows")
        messages = tuple(about["messages"])
        how = dict(about.get("about", {}))
        panel = make_panel(
            frame, target=about["target"], messages=messages, staleness=staleness, about=how, **roles
        )
        fingerprint = about["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError) as error:
        raise UserError(f"{path}: cannot be read ({error}). {advice}") from error
    if panel.fingerprint != fingerprint:
        raise UserError(f"{path}: not as it was written. {advice}")
    return panel


def _read_rows(path: Path, converters: dict[str, Callable]) -> pd.DataFrame:
    # Converters, because pandas' own parser of numbers is not exact in every version.
    frame = pd.read_csv(path, index_col="date", parse_dates=["date"], converters=converters)
    return frame.set_index(frame.index.as_unit("ns"))


def check_return_unit(train_target_sd: float, target_std: float) -> None:
    """Refuse a train target whose standard deviation is more than a factor 5 away from `loss.target_std`.

    Args: both as decimal returns. Raises: UserError that says which unit the data seems to be in.
    """
    sd, wanted = float(train_target_sd), float(target_std)
    if sd > 0 and math.isfinite(sd) and wanted / MAX_UNIT_FACTOR <= sd <= wanted * MAX_UNIT_FACTOR:
        return
    found = (
        f"the train target's standard deviation is {sd:.6g}, loss.target_std is {wanted:.6g}; expected them"
        f" within a factor {MAX_UNIT_FACTOR:g} of each other. "
    )
    if not (sd > 0 and math.isfinite(sd)):
        raise UserError(found + "The target is constant or not a number in the train rows: check its column.")
    # The unit that brings the two closest; a unit can explain only what looks like a factor of about 100.
    distance = {power: abs(math.log10(sd / wanted) - power) for power in (-2, 0, 2)}
    nearest = min(distance, key=distance.__getitem__)
    if nearest == 2:
        raise UserError(
            found + "The data seems to be in percent and loss.target_std in decimals: for a panel CSV set"
            ' data.return_unit to "percent", so that it is converted on reading.'
        )
    if nearest == -2:
        raise UserError(
            found
            + "The data seems to be in decimals and loss.target_std in percent: write it as a decimal (one"
            ' percent is 0.01). If data.return_unit is "percent", the file may hold decimals already: set it'
            ' to "decimal".'
        )
    raise UserError(
        found + "Both seem to be in decimals, but the series is much calmer or wilder than that: set"
        f" loss.target_std to about {sd:.2g}."
    )
