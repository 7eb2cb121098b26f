"""Attributions: answers by hand, a model that does not look at an input, and what adds up."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from tftjax.config.loading import from_dict
from tftjax.data.panel import make_panel
from tftjax.data.prepared import cardinalities, prepare
from tftjax.data.windows import gather
from tftjax.interpret import attribution
from tftjax.interpret.__main__ import main as interpret_main
from tftjax.interpret.attribution import Attributions, attribute, dependence, gradients, permutation
from tftjax.model.forecast import forecast_batch, forecast_rows
from tftjax.model.parameters import build_model, init_parameters, parameter_layout, to_tree
from tftjax.storage import runs
from tftjax.storage.directories import ForecastDirectory
from tftjax.sweep import ensembles

ROWS, E, P = 103, 5, 2
LEVELS = (0.1, 0.5, 0.9)


def make_run(directory, seed, blind=()):
    """A run with random parameters; what the observed inputs in `blind` hold changes no forecast."""
    random = np.random.default_rng(3)
    index = pd.bdate_range("2020-01-01", periods=ROWS, name="date")
    frame = pd.DataFrame(random.normal(size=(ROWS, 4)), index=index, columns=["y", "x", "z", "k"])
    days = index.day_of_week.to_numpy()
    frame = frame.assign(y=frame["y"] / 100, day=days, state=np.where(random.random(ROWS) < 0.5, "a", "b"))
    frame.loc[index[40:45], "z"] = np.nan
    columns = {"observed": ("y", "x", "z"), "observed_categorical": ("state",)}
    columns |= {"known_real": ("k",), "known_categorical": ("day",)}
    panel = make_panel(frame, target="y", **columns)
    model = {"hidden_size": 4, "num_heads": 2, "encoder_length": E, "prediction_length": P}
    content = {"name": "made-up", "model": model | {"quantiles": LEVELS}, "train": {"seed": seed}}
    config = from_dict(content | {"data": {"missing": "mask"}}, "x")
    data = prepare(panel, config)
    network = build_model(config, *cardinalities(data.panel, data.encoding))
    layout = parameter_layout(network, gather(data.series, jnp.zeros(1, jnp.int32), E, P)[0])
    vector = init_parameters(layout, seed)
    parameters = jax.tree.map(np.array, to_tree(vector, layout))
    for name in ("embedding_observed", "embedding_known_real"):
        # Around a value of 0 the norm of an embedding without a bias turns in a point.
        parameters[name]["bias"] += random.normal(size=parameters[name]["bias"].shape)
    for name in blind:
        parameters["embedding_observed"]["kernel"][panel.observed.index(name)] = 0.0
    return runs.Run(directory, config, data, parameters, 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"), 5, blind=("x",))


@pytest.fixture(scope="module")
def starts(run):
    return run.data.starts["test"]


@pytest.fixture(scope="module")
def by_step(run, starts):
    return gradients(run, starts)


def test_blocks_stay_whole():
    order = attribution.shuffled_blocks(range(10, 21), 4, np.random.default_rng(2))
    assert sorted(order) == list(range(10, 21))
    blocks = [list(range(10, 14)), list(range(14, 18)), [18, 19, 20]]
    found = [tuple(block) for block in blocks if str(block)[1:-1] in str(order.tolist())]
    assert len(found) == 3
    assert order.tolist() != list(range(10, 21))


def test_an_input_that_is_not_looked_at_is_worth_nothing(run, starts, by_step):
    shuffled = permutation(run, starts).set_index("variable")
    assert shuffled.loc["x", "rise_percent"] == pytest.approx(0, abs=1e-4)
    assert (shuffled.drop(index="x")["rise_percent"].abs() > 1e-3).all()
    assert list(shuffled["kind"]) == ["observed"] * 3 + ["observed category", "known", "known category"]
    table, _ = by_step
    assert (table.loc[table["variable"] == "x", "mean_absolute"] == 0).all()
    assert (table.loc[table["variable"] != "x"].groupby("variable")["mean_absolute"].sum() > 0).all()
    moved = dependence(run, starts)
    ranges = moved.groupby(["variable", "quantile"])["mean"].agg(np.ptp).groupby("variable").max()
    assert ranges["x"] == pytest.approx(0, abs=1e-8)
    assert (ranges.drop("x") > 1e-6).all()


def test_integrated_gradients_add_up_to_the_difference(by_step):
    table, miss = by_step
    assert miss < 0.02
    assert table["output"].unique().tolist() == ["median", "spread"]
    steps = {
        name: rows["step"].tolist() for name, rows in table.query("output == 'median'").groupby("variable")
    }
    assert steps["y"] == [-4, -3, -2, -1, 0]
    assert steps["k"] == [-4, -3, -2, -1, 0, 1, 2]
    # The second step's known number comes after the first step, which is what is attributed.
    assert table.query("variable == 'k' and step == 2")["mean_absolute"].eq(0).all()


def test_of_a_single_level_the_spread_is_left_out_of_what_gradients_miss(run, starts, monkeypatch):
    """Its difference is 0, and a share of it no number."""
    both = np.repeat([[1.0], [0.0]], attribution.CHUNK, axis=1)

    def integrated(*_):
        numbers = [np.zeros((2, count, steps, attribution.CHUNK)) for count, steps in ((3, E), (1, E + P))]
        return attribution.Integrated(*numbers, error=0.25 * both, difference=-both)

    monkeypatch.setattr(attribution, "_compiled_gradients", lambda model: integrated)
    assert gradients(run, starts)[1] == 0.25


def test_inputs_that_are_all_alike_have_no_rank_correlation():
    weights = {"x": 0.2, "y": 0.3, "z": 0.5}
    assert np.isnan(attribution._rank_correlation(pd.Series(0.0, weights), weights))
    assert attribution._rank_correlation(pd.Series([1.0, 2.0, 3.0], weights), weights) == 1


def test_integrated_gradients_by_hand(run, starts, by_step):
    """The attribution of a number is its value times its mean slope on the way from 0, by differences."""
    model = build_model(run.config, *cardinalities(run.data.panel, run.data.encoding))
    inputs, _ = gather(run.data.series, starts, E, P)
    parameters = jax.device_put(run.parameters)

    @jax.jit
    def forecast(inputs):
        return forecast_batch(model, parameters, inputs)[0]

    def median(share, bump):
        observed = share * inputs.observed.at[0, -1].add(bump / share)
        moved = inputs._replace(observed=observed, known_real=share * inputs.known_real)
        return np.asarray(forecast(moved)[:, 0, 1], np.float64)

    shares = (np.arange(16) + 0.5) / 16
    slopes = np.mean([(median(s, 0.05) - median(s, -0.05)) / 0.1 for s in shares], axis=0)
    own = slopes * inputs.observed[0, -1]
    (row,) = by_step[0].query("output == 'median' and variable == 'y' and step == 0").itertuples()
    np.testing.assert_allclose([row.mean, row.mean_absolute], [own.mean(), np.abs(own).mean()], rtol=0.03)


def test_dependence_without_a_swap_is_the_mean_forecast(run, starts, monkeypatch):
    """Where each window is its own donor, the quantiles are those that the model forecasts."""
    monkeypatch.setattr(attribution, "LEVELS", (0.5,))

    class Own:
        def choice(self, nearest, count):
            return np.arange(count)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Own())
    table = dependence(run, starts)
    model = build_model(run.config, *cardinalities(run.data.panel, run.data.encoding))
    expected = forecast_rows(model, run.parameters, run.data.series, starts)[:, 0].mean(axis=0)
    for _, rows in table.groupby("variable"):
        np.testing.assert_allclose(rows["mean"], expected, rtol=1e-4)
    own = table.query("variable == 'x'").iloc[0]
    last = run.data.panel.frame["x"].to_numpy()[starts + E - 1]
    assert own["value"] == pytest.approx(last.mean(), rel=1e-4)


def test_seeds_are_averaged_and_their_spread_is_said(run, tmp_path, capsys):
    other = replace(make_run(tmp_path, 6), data=run.data)
    place = ForecastDirectory(tmp_path)
    both = attribute([run, other], place)
    alone = [permutation(each, run.data.starts["test"])["rise_percent"] for each in (run, other)]
    np.testing.assert_allclose(both.permutation["rise_percent"], np.mean(alone, axis=0))
    np.testing.assert_allclose(both.permutation["sd_of_seeds"], np.std(alone, axis=0, ddof=1))
    assert both.agreement["seed"].tolist() == [5, 6]
    assert both.agreement.drop(columns="seed").abs().le(1).all(axis=None)
    for name in Attributions._fields:
        written = pd.read_csv(place.interpretation.table(name))
        assert written.shape == getattr(both, name).shape
        assert (tmp_path / f"interpretation/{name}.png").exists() is (name != "agreement")
    # Each column whose unit its name does not tell has it in a caption.
    shown = both._repr_html_()
    for name, table in both._asdict().items():
        assert attribution.CAPTIONS[name] in shown
        assert {"sd_of_seeds", "mean", "value"} & set(table) <= set(
            attribution.CAPTIONS[name].replace(":", "").split()
        )
    text = attribution.text_of(both, place)
    assert "sd over seeds" in text
    assert "rank correlation with the selection weights: permutation" in text


@pytest.mark.usefixtures("in_process", "no_pictures")
def test_the_command_prints_inputs_by_their_worth(run, tmp_path, monkeypatch, capsys):
    """Of a run whose attributions are compiled already."""
    directory = tmp_path / "run"
    monkeypatch.setattr(ensembles, "open_runs", lambda *_: [replace(run, directory=directory)])
    assert interpret_main([str(directory), "--attribution"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rises = [float(line.split("%")[0].split()[-1]) for line in lines if "sd over shuffles" in line]
    assert rises == sorted(rises, reverse=True)
    assert len(rises) > 2
    with pytest.raises(SystemExit):
        interpret_main([str(directory), "--config", "a"])
    assert "only with --attribution" in capsys.readouterr().err
