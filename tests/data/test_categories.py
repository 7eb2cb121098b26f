"""Categories that are observed: read from files and frames alike, coded by train rows, embedded, masked."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from model.test_tft import B, applied, build, parameters

from tftjax.config.loading import from_dict
from tftjax.data.encoding import categorical_columns, fit_encoding
from tftjax.data.loading import load_panel
from tftjax.data.panel import read_panel, write_panel
from tftjax.data.prepared import cardinalities
from tftjax.data.tables.inspection import inspect, read_any
from tftjax.data.windows import gather, make_series
from tftjax.errors import UserError
from tftjax.model.tft import TemporalFusionTransformer
from tftjax.predict.rows import extend_panel

ROWS = 11
RATINGS = ["B", "A", "B", None, "A", "C", "C", "D", "A", "B", "B"]
COLUMNS = {"target": "y", "observed": ["x"], "observed_categorical": ["rating"]}


def table():
    days = pd.bdate_range("2004-01-01", periods=ROWS).strftime("%Y-%m-%d")
    return pd.DataFrame({"date": days, "y": np.arange(ROWS) / 100, "x": 1.0, "rating": RATINGS})


def settings(missing="mask", **columns):
    content = {"dataset": "frame", "columns": COLUMNS | columns, "missing": missing}
    return from_dict({"data": content}, "test").data


def ratings(panel):
    return [None if pd.isna(rating) else rating for rating in panel.frame["rating"]]


@pytest.fixture(scope="module")
def panel():
    return load_panel(settings(), table())


def test_files_and_frames_give_the_same_categories(panel, tmp_path):
    assert panel.observed_categorical == categorical_columns(panel) == ("rating",)
    assert ratings(panel) == RATINGS
    table().to_csv(tmp_path / "t.csv", index=False)
    table().to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        update = {"dataset": str(tmp_path / name)}
        assert load_panel(settings().model_copy(update=update)).fingerprint == panel.fingerprint
    write_panel(tmp_path, panel)
    assert ratings(read_panel(tmp_path)) == RATINGS
    # pandas makes floats of whole numbers where one is missing, and a file has none.
    numbers = [7, 3, 7, None, *range(7)]
    found = ratings(load_panel(settings(), table().assign(rating=numbers)))
    assert found == [None if number is None else str(number) for number in numbers]


def test_codes_are_of_the_train_rows_and_a_missing_one_is_masked(panel):
    encoding = fit_encoding(panel, [range(0, 6)])
    assert encoding.categories == {"rating": ["A", "B", "C"]}
    assert cardinalities(panel, encoding) == ((4,), (), ())
    series = make_series(panel, encoding)
    codes = [2, 1, 2, 0, 1, 3, 3, 0, 1, 2, 2]  # D was not in the train rows
    np.testing.assert_array_equal(series.observed_categorical, [codes])
    np.testing.assert_array_equal(series.present[2], [rating is not None for rating in RATINGS])
    assert series.present[:2].all()
    windows, _ = jax.jit(gather, static_argnums=(2, 3))(series, np.array([1, 4], np.int32), 3, 2)
    np.testing.assert_array_equal(windows.observed_categorical[0].T, [codes[1:4], codes[4:7]])
    np.testing.assert_array_equal(windows.present[2].T, [[True, True, False], [True] * 3])


def test_later_rows_change_no_code_of_earlier_ones(panel):
    later = panel.frame["rating"].where(np.arange(ROWS) < 6, "Z").tolist()
    other = dataclasses.replace(panel, frame=panel.frame.assign(rating=np.array(later, object)))
    one, two = (make_series(of, fit_encoding(of, [range(0, 6)])) for of in (panel, other))
    np.testing.assert_array_equal(one.observed_categorical[:, :6], two.observed_categorical[:, :6])
    assert not two.observed_categorical[:, 6:].any()


def test_the_next_steps_have_none(panel):
    extended = extend_panel(panel, 3)
    assert ratings(extended) == [*RATINGS, None, None, None]
    # Rows of the future at the end of a table lack a category as they lack a target.
    rows = table()
    ahead = rows.reset_index(drop=True).reindex(range(len(rows) + 1))
    ahead.loc[len(rows), "date"] = "2004-01-20"
    found = load_panel(settings(), ahead)
    assert found.frame.equals(panel.frame)


def test_a_missing_category_is_refused_unless_asked_for():
    with pytest.raises(UserError, match=r"row 3 .*'rating': found no value.*set data.missing to 'mask'"):
        load_panel(settings("refuse"), table())
    with pytest.raises(UserError, match=r"'rating': found the text 'B'.*name it in observed_categorical"):
        load_panel(settings(observed=["rating"], observed_categorical=[]), table())
    with pytest.raises(UserError, match=r"data\.columns: found 'month' in another role"):
        load_panel(settings(observed_categorical=["month"]), table())


def test_init_names_them(tmp_path):
    days, rng = pd.bdate_range("2010-01-04", periods=101), np.random.default_rng(3)
    parts = [
        pd.DataFrame({"date": days, "stock": name, "ret": 0.01 * rng.standard_normal(101)}).assign(
            sector=sector, rating=rng.choice(["A", "B", "C"], 101), comment=[f"at {day}" for day in days]
        )
        for name, sector in {"a": "oil", "b": "food", "c": "oil"}.items()
    ]
    frame = pd.concat(parts)
    frame.iloc[5, 4] = None
    frame.to_csv(tmp_path / "t.csv", index=False)
    found = inspect(read_any(tmp_path / "t.csv"))
    columns = found.data["columns"]
    assert (columns["observed_categorical"], columns["static_categorical"]) == (["rating"], ["sector"])
    assert found.data["missing"] == "mask"
    words = {column.name: column.words for column in found.columns}
    assert words["rating"] == "observed, 3 categories: A, B, C, missing in 0.3% of the rows"
    assert words["sector"] == "static, 2 categories: food, oil"
    assert words["comment"].startswith("left out: text")


@functools.cache
def two_models():
    """A model of an observed category of two values, and one in which it is a number, 0 or 1."""
    model, inputs = build(static=(), lstm_layers=1)
    codes = jnp.asarray(np.random.default_rng(2).integers(0, 2, (1, *inputs.observed.shape[1:])), jnp.int32)
    of_category = inputs._replace(observed=inputs.observed[:2], observed_categorical=codes)
    sizes = model.known_cardinalities, model.static_cardinalities
    categorical = TemporalFusionTransformer(model.config, *sizes, observed_cardinalities=(2,))
    tree = jax.tree.map(jnp.float32, parameters(categorical, of_category))
    reals, table = tree["embedding_observed"], tree["embedding_observed_categorical"]["embedding"]
    kernel = jnp.concatenate([reals["kernel"], (table[1] - table[0])[None, None]])
    as_real = {"kernel": kernel, "bias": jnp.concatenate([reals["bias"], table[:1]])}
    other = {name: part for name, part in tree.items() if name != "embedding_observed_categorical"}
    other["embedding_observed"] = as_real
    of_number = inputs._replace(observed=jnp.concatenate([inputs.observed[:2], codes.astype(jnp.float32)]))
    return (categorical, tree, of_category), (model, other, of_number)


@pytest.mark.parametrize("masked", [False, True])
def test_a_category_of_two_values_is_a_number_of_two(masked):
    present = np.ones((3, *two_models()[0][2].observed.shape[1:]), bool)
    present[2, 1, 0] = present[0, 2, 1] = False
    outputs = []
    for model, tree, inputs in two_models():
        inputs = inputs._replace(present=jnp.asarray(present) if masked else None)
        outputs.append(applied(model, tree, inputs))
    for one, two in zip(*map(jax.tree.leaves, outputs), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
    assert (outputs[0].encoder_selection[0, 1, 2] == 0) == masked


def test_a_category_that_is_there_is_seen_in_its_window_alone():
    model, tree, inputs = two_models()[0]
    changed = inputs.observed_categorical.at[0, 3, 1].set(1 - inputs.observed_categorical[0, 3, 1])
    one, two = (
        applied(model, tree, i).quantiles for i in (inputs, inputs._replace(observed_categorical=changed))
    )
    moved = np.abs(two - one).max(axis=(1, 2)) > 0
    assert moved.tolist() == [window == 1 for window in range(B)]
