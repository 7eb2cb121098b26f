"""Exported models: the same quantiles as `predict` in a process that has jax and numpy alone; what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from tftjax import predict
from tftjax.config.functions import Functions
from tftjax.config.loading import from_dict
from tftjax.data.loading import load_panel
from tftjax.data.prepared import cardinalities, prepare
from tftjax.data.tables.transforms import in_return_unit
from tftjax.data.windows import gather
from tftjax.errors import UserError
from tftjax.export import FILES, export
from tftjax.export.__main__ import main
from tftjax.model.parameters import build_model, init_parameters, parameter_layout, to_tree
from tftjax.storage import runs

pytest.importorskip("flatbuffers")
pytestmark = pytest.mark.usefixtures("in_process")

E, P, ROWS = 5, 2, 211
# Reads requests from standard input, where nothing but jax, numpy and flatbuffers can be imported.
ALONE = """
import importlib.abc, json, sys
class Refusal(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"tftjax", "flax", "pandas", "optax", "pydantic", "statsmodels", "arch"}:
            raise ModuleNotFoundError(f"refused: {name}")
sys.meta_path.insert(0, Refusal())
sys.path.insert(0, sys.argv[1])
import forecast
forecast = forecast.load()
print(json.dumps([forecast(*request) for request in json.load(sys.stdin)]))
"""


def alone(folder, *requests):
    """The forecasts of an exported model, as frames."""
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder)],
        input=json.dumps(requests),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [pd.DataFrame(table) for table in json.loads(done.stdout)]


def untrained(directory, frame, *, functions=None, model=None, train=None, **data):
    """A run with random parameters on a table of its own."""
    model = {"hidden_size": 4, "encoder_length": E, "prediction_length": P, **(model or {})}
    config = from_dict({"data": data, "model": model, "train": train or {}}, "test")
    panel = load_panel(config.data, frame)
    prepared = prepare(panel, config)
    functions = functions or Functions()
    network = build_model(config, *cardinalities(panel, prepared.encoding), functions)
    inputs, _ = gather(prepared.series, jnp.zeros(1, jnp.int32), E, P)
    layout = parameter_layout(network, inputs)
    vector = init_parameters(layout, 5)
    vector += 0.3 * np.random.default_rng(6).standard_normal(vector.shape, np.float32)
    return runs.Run(directory, config, prepared, to_tree(vector, layout), 1, functions)


def predicted(run, frame, future=None):
    table = predict.predict(run, predict.load_rows(run, frame, None, future))
    return in_return_unit(table, run.config.data).reset_index(names="date")


def as_lists(frame):
    """The columns of a frame as JSON has them."""
    return json.loads(frame.to_json(orient="columns", date_format="iso", double_precision=15)) and {
        name: [
            str(value)[:10] if name == "date" else None if pd.isna(value) else value
            for value in frame[name].tolist()
        ]
        for name in frame
    }


def assert_same(table, expected):
    """Dates, series and quantiles are those of `predict`."""
    assert table["date"].tolist() == expected["date"].astype(str).tolist()
    levels = [name for name in expected if name not in ("date", "series")]
    assert levels == [name for name in table if name[0] in "01"]
    np.testing.assert_allclose(table[levels], expected[levels], rtol=0, atol=1e-6)
    assert np.diff(table[levels]).min() >= 0


def table_of(*names, rows=ROWS):
    """Returns with clusters of volatility, a level, a mark known beforehand, a category, a sector."""
    parts = []
    for name in names:
        rng = np.random.default_rng(ord(name))
        sigma = 0.01 * np.exp(0.7 * np.sin(np.arange(rows) / 17 + ord(name)))
        part = {"date": pd.bdate_range("2019-01-01", periods=rows), "stock": name}
        part |= {"ret": sigma * rng.standard_t(4, rows), "vix": 1500 * sigma * rng.uniform(0.8, 1.2, rows)}
        part |= {"flow": 5e4 + rng.normal(size=rows), "fee": rng.integers(0, 3, rows) / 10.0}
        part |= {"phase": rng.choice(["low", "mid", "top"], rows), "sector": {"a": "oil"}.get(name, "food")}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def parts_of(frame, steps=P):
    """Rows of the past, and the last ones of each series as those of the future."""
    last = frame.groupby("stock").cumcount(ascending=False) < steps
    return frame[~last].reset_index(drop=True), frame[last].reset_index(drop=True)


COLUMNS = {"target": "ret", "observed": ["vix", "flow"], "known_categorical": ["day_of_week", "month"]}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target_scale": "ewma", "return_unit": "percent"},
        {"target_scale": "column:vix", "target_transform": "log_return"},
        {"target_scale": "gjr", "columns": COLUMNS | {"known_real": ["lag_3"]}},
        {"target_scale": "log_scale", "scale_features": True, "volatility": "vix"},
        {"target_scale": "pooled_log_scale", "missing": "mask"},
    ],
    ids=str,
)
def test_the_same_quantiles_as_predict(settings, tmp_path):
    rows = table_of("a").drop(columns=["stock", "fee", "phase", "sector"])
    if settings.get("return_unit") == "percent":
        rows["ret"] *= 100
    if settings.get("target_transform") == "log_return":
        rows["ret"] = 100 * np.exp(rows["ret"].cumsum())
    if settings.get("missing") == "mask":
        rows.loc[rows.index % 7 == 2, "flow"] = np.nan
    # A Christmas, after which a row comes later than usual.
    rows = rows[~rows["date"].isin(pd.to_datetime(["2019-05-01", "2019-10-17"]))].reset_index(drop=True)
    run = untrained(tmp_path / "run", rows, **{"dataset": "frame", "columns": COLUMNS} | settings)
    folder = export([run], tmp_path / "model")
    for given in (rows, rows[:-9]):
        expected = predicted(run, given)
        (table,) = alone(folder, [as_lists(given), as_lists(expected[["date"]])])
        assert_same(table, expected)
