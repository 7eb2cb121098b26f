"""The folder of an exported model: the program, what its columns are, and the loader."""

import hashlib
import importlib.util
import json
import logging
import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tftjax import files
from tftjax.data.encoding import categorical_columns
from tftjax.data.feature_sets import OF_THE_DATE
from tftjax.data.loading import date_column
from tftjax.data.panel import ROLES, blocks
from tftjax.data.prepared import target_days, train_targets
from tftjax.data.scales.target import has_scale_of_unseen, rows_needed
from tftjax.data.tables.transforms import TARGET_TRANSFORMS
from tftjax.errors import UserError, both
from tftjax.evaluate.calibration.conformal import MEMORY
from tftjax.predict.conformal import fitted_calibration
from tftjax.predict.export import program, scales
from tftjax.predict.forecasts import shown_as
from tftjax.storage import directories
from tftjax.storage.runs import Run

log = logging.getLogger(__name__)

PROGRAM, ABOUT, LOADER = FILES = "program.bin", "model.json", "forecast.py"


def export(seeds: Sequence[Run], directory: Path, *, overwrite: bool = False) -> Path:
    """Writes the forecast of a run, or the mean of several seeds', for use without this package.

    Args:
      directory: folder of the three files.
      overwrite: replaces an exported model there.
    Returns:
      The folder.
    Raises:
      UserError: something lies there, or a setting cannot be exported.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError("export: needs the package flatbuffers. Install it: pip install 'tftjax[export]'.")
    names = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    there = sorted(names - {"__pycache__"})  # of a loader that was imported there
    other = [name for name in there if name not in FILES]
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory}: is a file, expected a folder to write. Choose another name.")
    if other or (there and not overwrite):
        advice = "Choose another folder" + ("." if other else f", or replace it: {both('--overwrite')}.")
        raise UserError(f"{directory}: exists, and has {', '.join(other or there)}. {advice}")
    for run in seeds:
        scales.check_exported(run.data.encoding)
    serialized, about = program.export_program(seeds), description(seeds)
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode() + serialized).hexdigest()
    directories.make(directory)
    files.replace_file(directory / PROGRAM, lambda path: path.write_bytes(serialized))
    files.write_json(directory / ABOUT, about | {"sha256": digest})
    files.replace_file(
        directory / LOADER, lambda path: shutil.copyfile(Path(__file__).with_name(LOADER), path)
    )
    return directory


def description(seeds: Sequence[Run]) -> dict[str, Any]:
    """What a loader, and who gives it rows, has to know of the program's columns; JSON."""
    run = seeds[0]
    panel, encoding, config = run.data.whole, run.data.encoding, run.config
    history, least = program.row_counts(run)
    columns, date = _columns(run), date_column(config.data)
    reals = [name for name, column in columns.items() if "values" not in column]
    transform = panel.about.get("target_transform", "none")
    changes = int(transform in program.CHANGES)
    unit = 100.0 if config.data.return_unit == "percent" else 1.0
    targets = np.concatenate([*train_targets(run.data.panel, run.data.blocks).values()])
    trained = max(day for one in seeds for day in target_days(one.data.panel, one.data.blocks, "train"))
    return {
        "name": config.name,
        "versions": {name: metadata.version(name) for name in ("tftjax", "jax")},
        "platforms": list(program.PLATFORMS),
        "trained_until": str(trained),
        "forecast": shown_as(config.data),
        "quantiles": [f"{level:g}" for level in config.model.quantiles],
        "steps": config.model.prediction_length,
        "frequency": panel.about.get("frequency", "daily"),
        "date": date,
        "id": panel.id_column,
        "series": {
            name: str(run.data.panel.frame.index[rows.start].date())
            for name, rows in blocks(run.data.panel.frame, panel.id_column)
            if name in encoding.series
        },
        "columns": columns,
        "needed": {
            "rows": [date, *(name for name, column in columns.items() if column["role"] != "made")],
            "future": [
                date,
                *(name for name, one in columns.items() if one["role"] == "known" or name == panel.id_column),
            ],
        },
        "reals": reals,
        "complete": [not columns[name]["missing"] for name in reals],
        "codes": {  # 0 is an unknown category
            name: {str(value): code for code, value in enumerate(column["values"], 1)}
            for name, column in columns.items()
            if "values" in column
        },
        "lags": program.lags(panel),
        "calendar": scales.needs_calendar(encoding),
        "changes": changes,
        "transform": transform,
        "lead": program.rows_before(run),
        "window": config.model.encoder_length + config.model.prediction_length,
        "encoder_length": config.model.fewest_rows,
        "history": history,
        "least": least,
        "spread": None if changes else float(targets.std()) * unit,
        "conformal": _conformal(seeds),
        "paths": "Sample paths (tftjax predict --paths) need the run and the package: they take the order of"
        " its train rows.",
    }


def _conformal(seeds: Sequence[Run]) -> dict[str, Any]:
    """The conformal calibration of `predict`, or why there is none; JSON."""
    try:
        calibration, since = fitted_calibration(seeds)
    except UserError as error:
        asked = seeds[0].config.evaluation.conformal != "none"
        (log.warning if asked else log.info)(f"exported without a conformal calibration: {error}")
        return {"missing": str(error)}
    run, encoding = seeds[0], seeds[0].data.encoding
    rows = max(run.config.model.encoder_length, rows_needed(encoding.target_scale, encoding.scales))
    return {"shifts": calibration.shifts, "since": str(since), "rows": rows, "memory": MEMORY}


def _columns(run: Run) -> dict[str, dict[str, Any]]:
    """The columns of rows by name, numbers before categories, in the program's order."""
    panel, encoding, train = run.data.whole, run.data.encoding, run.config.train
    units, made = panel.about.get("units", {}), panel.about.get("made", OF_THE_DATE)
    return_unit = "percent" if run.config.data.return_unit == "percent" else "decimal"
    # The columns of the target's scale and of the regime have a value in every row.
    always = encoding.regime_column, encoding.target_scale.partition(":")[2]
    roles = {name: role for role in ROLES for name in getattr(panel, role)}
    unseen = bool(train.static_dropout) and has_scale_of_unseen(encoding.target_scale)
    columns = {}
    for name in program.raw_columns(panel):
        unit = units.get(name, "as in training")
        columns[name] = {
            "role": "target" if name == panel.target else roles[name].partition("_")[0],
            "unit": f"{unit}, {return_unit}" if unit == "return" else unit,
            "missing": (program.may_miss(run) and name in panel.observed[1:] and name not in always)
            or (panel.masks_known and name in panel.known_real),
        }
    if TARGET_TRANSFORMS[panel.about.get("target_transform", "none")].undo is not None:
        columns[panel.target]["unit"] = "levels, of which the changes are forecast"
    for name in encoding.usual_ages:
        age = f"{name} age"
        columns[age] = {"role": "age", "unit": "days since release", "missing": True}
    for name in categorical_columns(panel):
        static = name in panel.static_categorical
        columns[name] = {
            "role": "made" if name in made and name in OF_THE_DATE else roles[name].partition("_")[0],
            "values": list(encoding.categories[name]),
            "unknown": unseen if name == panel.id_column else not static or bool(train.static_dropout),
        }
    return columns
