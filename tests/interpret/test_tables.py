"""Interpretation: measures by hand, weights collected in chunks, tables that add up, and a known answer."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import from_dict
from tftjax.data.panel import make_panel
from tftjax.data.prepared import cardinalities, prepare
from tftjax.data.windows import gather
from tftjax.errors import UserError
from tftjax.interpret import tables as interpret
from tftjax.interpret import weights as interpret_weights
from tftjax.interpret.__main__ import main as interpret_main
from tftjax.interpret.weights import collect, distance, entropy, lags_of, recency_correlation, regime_shift
from tftjax.model.attention import MASKS
from tftjax.model.parameters import build_model, init_parameters, parameter_layout, to_tree
from tftjax.runtime import device_mesh
from tftjax.storage import runs
from tftjax.train.step import compile_epoch, init_state, make_program, train_data

ROWS, E, P, H = 103, 5, 2, 2
T = E + P
STALENESS = {"mode": "variable_selection", "weight": 0.7, "gradient_scale": 2}
REGIME = {"by": "router", "num_regimes": 3, "gradient_scale": 2}


def make_run(directory, *, series=("a",), attention=None):
    """A run with random parameters."""
    rng, parts = np.random.default_rng(3), []
    for name in series:
        index = pd.bdate_range("2020-01-01", periods=ROWS, name="date")
        rows = pd.DataFrame(rng.normal(size=(ROWS, 2)), index=index, columns=["y", "x"])
        parts.append(rows.assign(y=rows["y"] / 100, name=name, day=index.day_of_week.to_numpy()))
    frame = pd.concat(parts)
    several = {"static_categorical": ("name",), "id_column": "name"} if len(series) > 1 else {}
    panel = make_panel(
        frame,
        target="y",
        observed=("y", "x"),
        known_categorical=("day",),
        staleness=pd.DataFrame({"x": np.arange(len(frame)) % 7.0}, index=frame.index),
        **several,
    )
    model = {"hidden_size": 4, "num_heads": H, "encoder_length": E, "prediction_length": P}
    raw = {"name": "made-up", "model": model | {"quantiles": [0.1, 0.5], "attention": attention or {}}}
    config = from_dict(raw, "x")
    data = prepare(panel, config)
    network = build_model(config, *cardinalities(data.panel, data.encoding))
    layout = parameter_layout(network, gather(data.series, jnp.zeros(1, jnp.int32), E, P)[0])
    vector = init_parameters(layout, 5)
    vector += 0.3 * np.random.default_rng(6).standard_normal(vector.shape, np.float32)
    return runs.Run(directory, config, data, to_tree(vector, layout), 1)


def test_lags_by_hand():
    np.testing.assert_array_equal(lags_of(3, 2), [[3, 2, 1, 0, -1], [4, 3, 2, 1, 0]])


def test_entropy_by_hand():
    weights = np.array([[0.25] * 4, [1.0, 0, 0, 0], [0.5, 0.5, 0, 0]])
    np.testing.assert_allclose(entropy(weights), [np.log(4), 0, np.log(2)])


@pytest.mark.parametrize("mask", sorted(MASKS))
def test_recency_against_numpy(mask):
    allowed = MASKS[mask](E, P)
    attention = np.where(allowed, np.random.default_rng(1).random((3, P, T)), 0.0)
    found = recency_correlation(attention, allowed)
    for w in range(3):
        for p in range(P):
            seen = np.flatnonzero(allowed[p])
            expected = np.corrcoef(attention[w, p, seen], seen)[0, 1]
            np.testing.assert_allclose(found[w, p], expected)


def test_recency_of_patterns():
    allowed = MASKS["causal"](3, 1)
    attention = np.array([[[0.1, 0.2, 0.3, 0.4]], [[0.4, 0.3, 0.2, 0.1]], [[0.25] * 4]])
    np.testing.assert_allclose(recency_correlation(attention, allowed), [[1], [-1], [np.nan]])


def test_distance_by_hand():
    p = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0.36, 0.64, 0]])
    q = np.array([[0.5, 0.5, 0], [0, 0, 1], [0.64, 0.36, 0]])
    np.testing.assert_allclose(distance(p, q), [0, 1, 0.2], atol=1e-7)  # 1 - 2 * 0.6 * 0.8 = 0.04


def test_the_shift_is_largest_where_the_pattern_differs():
    usual, other = [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]
    attention = np.array([[usual, usual], [usual, usual], [other, usual], [usual, usual]])
    shift = regime_shift(attention)
    mean = attention.mean(axis=0)
    np.testing.assert_allclose(shift[2], (distance(np.array([other]), mean[:1])[0] + 0) / 2, atol=1e-7)
    assert np.argmax(shift) == 2
    np.testing.assert_allclose(shift[[0, 1]], shift[3])


@pytest.fixture(scope="module", autouse=True)
def small_chunks():
    """Several chunks, the last one not full, and one program for all splits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpret_weights, "CHUNK", 8)
        yield


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A run with three series."""
    return make_run(tmp_path_factory.mktemp("several"), series=("a", "b", "c"))


def test_weights_are_those_of_the_model_whatever_the_chunk(several):
    starts = several.data.starts["val"]
    weights = collect(several, starts)
    assert len(starts) % 8
    inputs, _ = gather(several.data.series, starts, E, P)
    model = build_model(several.config, *cardinalities(several.data.panel, several.data.encoding))
    output = jax.jit(lambda p, i: model.apply({"params": p}, i))(several.parameters, inputs)
    close = {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(weights.attention, output.attention.mean(axis=1), **close)
    np.testing.assert_allclose(weights.encoder, output.encoder_selection.mean(axis=1), **close)
    np.testing.assert_allclose(weights.decoder, output.decoder_selection.mean(axis=1), **close)
    np.testing.assert_allclose(weights.static, output.static_selection, **close)
    np.testing.assert_allclose(weights.head_attention, output.attention.mean(axis=0), **close)
    lags = (np.asarray(output.attention) * lags_of(E, P)).sum(axis=3)
    np.testing.assert_allclose(weights.head_lags, lags, **close)
    assert weights.regime is None
    assert 0 < weights.largest_error < 1e-5


def test_wrong_weights_are_never_let_through(several):
    wrong = jax.tree.map(np.copy, several.parameters)
    wrong["encoder_selection"]["weights"]["w1"]["bias"][:] = np.nan
    with pytest.raises(UserError, match="weights attention of window 0 sum to nan, expected 1"):
        collect(dataclasses.replace(several, parameters=wrong), several.data.starts["val"])


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """A run with both variants: itself, its tables and summary."""
    run = make_run(tmp_path_factory.mktemp("run"), attention={"staleness": STALENESS, "regime": REGIME})
    summary = interpret.interpret(run)
    folder = run.directory / "interpretation"
    return run, {path.stem: pd.read_csv(path) for path in folder.glob("*.csv")}, summary


def test_tables_cover_every_window_with_its_date(interpreted):
    run, tables, summary = interpreted
    counts = {split: len(starts) for split, starts in run.data.starts.items()}
    index = run.data.panel.frame.index
    for name, each in (("importance_over_time", 1), ("attention_over_time", P), ("heads_over_time", P * H)):
        table = tables[name]
        assert table.groupby("split").size().to_dict() == {s: each * count for s, count in counts.items()}
        first = table[table["split"] == "test"]["date"].iloc[0]
        assert first == str(index[run.data.starts["test"][0] + E].date())
    assert {split: values["windows"] for split, values in summary.items()} == counts
    assert json.loads((run.directory / "interpretation" / "summary.json").read_text()) == summary


def test_tables_sum_to_one(interpreted):
    _, tables, summary = interpreted
    for _, rows in tables["importance"].groupby(["split", "kind"]):
        np.testing.assert_allclose(rows["mean"].sum(), 1, atol=1e-4)
    over_time = tables["importance_over_time"]
    for kind in ("encoder", "decoder"):
        columns = [column for column in over_time if column.startswith(f"{kind}: ")]
        np.testing.assert_allclose(over_time[columns].sum(axis=1), 1, atol=1e-4)
    steps = [str(step) for step in range(1 - E, P + 1)]
    np.testing.assert_allclose(tables["attention_over_time"][steps].sum(axis=1), 1, atol=1e-4)
    for _, rows in tables["attention_by_lag"].groupby(["split", "horizon"]):
        for column in ("mean", "head 1", "head 2"):
            np.testing.assert_allclose(rows[column].sum(), 1, atol=1e-4)
        np.testing.assert_allclose(rows["mean"], rows[["head 1", "head 2"]].mean(axis=1), atol=1e-5)
        assert (rows["p10"] <= rows["p90"]).all()
    for values in summary.values():
        assert values["largest_error_of_a_sum"] < 1e-5


def test_importance_by_regime_adds_up(interpreted):
    run, tables, summary = interpreted
    table = tables["importance"]
    assert list(table.loc[table["split"] == "val", "variable"]) == ["y", "x", "day", "day"]
    for division in ("volatility", "router"):
        counts = summary["train"]["regimes"][division]
        assert sum(counts.values()) == len(run.data.starts["train"])
        rows = table[(table["split"] == "train") & (table["kind"] == "encoder")]
        parts = [rows[f"{division}: {label}"].fillna(0) * count for label, count in counts.items()]
        np.testing.assert_allclose(sum(parts) / sum(counts.values()), rows["mean"], atol=1e-4)


def test_what_the_variants_learned(interpreted):
    run, tables, _ = interpreted
    table = tables["variants"]
    (weight,) = table[table["what"] == "staleness weight"].itertuples()
    raw = run.parameters["encoder_selection_staleness"]["raw_weight"][1]
    assert (weight.of, weight.start) == ("x", 0.7)
    np.testing.assert_allclose(weight.value, 0.7 * np.log1p(np.exp(2 * raw)) / np.log(2), rtol=1e-4)
    gates = table[table["what"] == "gate"]
    assert list(gates["of"])[:3] == ["head 1, regime 1", "head 1, regime 2", "head 1, regime 3"]
    expected = 1 + 2 * run.parameters["attention_gates"]["gate"].T.ravel()
    np.testing.assert_allclose(gates["value"], expected, rtol=1e-4)


def test_pictures_are_drawn(interpreted):
    run, _, _ = interpreted
    drawn = {path.stem for path in (run.directory / "interpretation").glob("*.png")}
    over_time = {f"{name}_over_time" for name in ("importance", "attention", "heads")}
    assert drawn == over_time | {"importance", "attention_by_lag", "regime_shift"}


def test_several_series(several):
    summary = interpret.interpret(several)
    folder = several.directory / "interpretation"
    table = pd.read_csv(folder / "regime_shift.csv")
    assert table.groupby("series").size().tolist() == [sum(v["windows"] for v in summary.values()) / 3] * 3
    assert set(pd.read_csv(folder / "importance.csv")["kind"]) == {"static", "encoder", "decoder"}
    # Each series' distance is from its own mean pattern.
    weights = [collect(several, several.data.starts[split]).attention for split in summary]
    attention = np.concatenate(weights)[(table["series"] == "b").to_numpy()]
    np.testing.assert_allclose(table[table["series"] == "b"]["distance"], regime_shift(attention), rtol=1e-4)


@pytest.mark.usefixtures("in_process")
def test_the_command_names_what_is_no_run(tmp_path, capsys):
    assert interpret_main([str(tmp_path / "absent")]) == 2
    assert "not a run" in capsys.readouterr().err


def test_the_table_for_the_terminal():
    values = {"mean_lag": 3.2, "own_step": 0.25, "effective_steps": 7.5, "windows": 12}
    text = interpret.table_of({"one": {"val": values | {"recency_correlation": 0.4}, "test": values}})
    lines = text.splitlines()
    assert lines[1].split() == ["one", "val", "+0.400", "3.20", "25.0", "%", "7.5", "12"]
    assert lines[2].split()[2] == "-"


@pytest.mark.slow
def test_a_column_that_tells_of_the_target_is_important_until_its_values_are_permuted(tmp_path):
    """Returns follow `x`, not `z`: whichever column holds x gets the weight, a permuted one loses it."""
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(2, 400))
    y = 0.01 * np.append(0, x[:-1]) + 0.002 * rng.normal(size=400)
    index = pd.bdate_range("2020-01-01", periods=400, name="date")
    raw = {
        "model": {"hidden_size": 4, "num_heads": 2, "encoder_length": 3, "dropout_rate": 0},
        "train": {"batch_size": 20, "learning_rate": 0.01, "max_grad_norm": 10},
    }
    config = from_dict(raw, "x")
    compiled = {}

    def importance(**columns):
        """Mean weight of each column after training on them."""
        frame = pd.DataFrame({"y": y, **columns}, index=index)
        panel = make_panel(frame, target="y", observed=tuple(frame))
        data = prepare(panel, config)
        program = make_program(config, data, device_mesh(1))
        epoch = compiled.setdefault(
            "epoch", compile_epoch(program, emitters=False)
        )  # the data are its arguments
        rates = jax.tree.map(np.float32, hyperparameters(config))
        state = init_state(program, rates, seed=1)
        for _ in range(15):
            state, _ = epoch(state, rates, train_data(data))
        parameters = to_tree(np.asarray(state.params), program.layout)
        run = runs.Run(tmp_path, config, data, parameters, 1)
        weights = collect(run, data.starts["test"]).encoder.mean(axis=0)
        return dict(zip(frame, weights, strict=True))

    known = importance(x=x, z=z)
    assert known["x"] > known["z"] + 0.2
    assert known["x"] > known["y"] + 0.2
    swapped = importance(x=z, z=x)
    assert swapped["z"] > swapped["x"] + 0.2
    permuted = importance(x=rng.permutation(x), z=z)
    assert permuted["x"] < known["x"] - 0.2


def test_a_run_keeps_its_directory_when_it_is_interpreted_twice(interpreted):
    run, tables, summary = interpreted
    again = interpret.interpret(run)
    assert again == summary
    table = pd.read_csv(run.directory / "interpretation" / "importance.csv")
    pd.testing.assert_frame_equal(table, tables["importance"])
    assert not list((run.directory / "interpretation").glob("*.new"))
