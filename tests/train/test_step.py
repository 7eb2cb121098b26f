"""The training program on a tiny learnable series: devices, look-ahead, resumption, collapse."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from jax.sharding import PartitionSpec

from tftjax.config.functions import NO_FUNCTIONS
from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import Config
from tftjax.config.loss import LossConfig
from tftjax.config.model import AttentionConfig, ModelConfig, RegimeConfig
from tftjax.config.train import TrainConfig
from tftjax.data.panel import make_panel
from tftjax.data.prepared import prepare as prepare_data
from tftjax.data.windows import gather
from tftjax.model.forecast import forecast_batch
from tftjax.model.parameters import to_tree
from tftjax.runtime import compiler_options, device_mesh
from tftjax.storage import checkpoint
from tftjax.train.engine import BatchEngine, Training
from tftjax.train.step import (
    Program,
    compile_epoch,
    forecast_losses,
    init_state,
    make_program,
    state_from_arrays,
    state_to_arrays,
    train_data,
    train_step,
)

ROWS, BATCH = 101, 6
QUANTILES = (0.1, 0.5, 0.75)
# With a router: its balance, like the moments, is of the whole batch.
ROUTED = AttentionConfig(regime=RegimeConfig(by="router"))
SIZES = {"hidden_size": 4, "num_heads": 2, "encoder_length": 5, "prediction_length": 2}
CONFIG = Config(
    model=ModelConfig(**SIZES, quantiles=QUANTILES, attention=ROUTED), train=TrainConfig(batch_size=BATCH)
)
RATES = hyperparameters(CONFIG)._replace(
    dropout_rate=0.2,
    learning_rate=0.01,
    max_grad_norm=1e6,
    mean_weight=0.7,
    std_weight=1.3,
    balance_weight=2.0,
)


def frame():
    """A return of a hundredth, up or down as a known input says, with some noise."""
    rng = np.random.default_rng(11)
    sign = rng.choice([-1.0, 1.0], ROWS)
    return pd.DataFrame(
        {
            "y": 0.01 * sign + 0.001 * rng.normal(size=ROWS),
            "x": rng.normal(size=ROWS),
            "sign": sign,
            "month": np.arange(ROWS) % 3,
        },
        index=pd.bdate_range("2020-01-01", periods=ROWS),
    )


def prepare(values):
    panel = make_panel(
        values, target="y", observed=("y", "x"), known_real=("sign",), known_categorical=("month",)
    )
    return prepare_data(panel, CONFIG)


def rates(**changes):
    return jax.tree.map(np.float32, RATES._replace(**changes))


def with_text(program, *arguments):
    """A program, compiled once: as a function, its result on the host, and what the compiler made of it."""
    ready = program.lower(*arguments).compile()

    def call(*arguments):
        leaves = jax.tree.unflatten(jax.tree.structure(arguments), program.put(*arguments))
        return program.rebuild(list(jax.device_get(ready(*leaves))), *arguments)

    return call, ready.as_text()


@pytest.fixture(scope="module")
def trained():
    """The compiled epoch on two devices, its data, and `run(epochs, ...)`."""
    data = prepare(frame())
    program = make_program(CONFIG, data, device_mesh())
    assert program.mesh.size == 2
    start = init_state(program, RATES, seed=3)
    compiled, text = with_text(compile_epoch(program, emitters=False), start, rates(), train_data(data))

    def run(epochs, state=start, values=None, **changes):
        """The states and the metrics after each epoch, on the host."""
        arrays = train_data(data if values is None else prepare(values))
        history = []
        for _ in range(epochs):
            state, metrics = compiled(state, rates(**changes), arrays)
            history.append((state, metrics))
        return history

    return SimpleNamespace(data=data, program=program, start=start, text=text, run=run)


@pytest.fixture(scope="module")
def stepped(trained):
    """`step(devices, state, ...)`: one optimizer step on a mesh of that many devices."""
    compiled = {}
    starts = jnp.asarray(trained.data.starts["train"][[3, 50, 8, 21, 40, 13]])

    def step(devices, state=None, train=CONFIG.train, **changes):
        mesh = jax.make_mesh((devices,), ("devices",), devices=jax.devices()[:devices])
        config = CONFIG.model_copy(update={"train": train})
        program = trained.program._replace(mesh=mesh, config=config)
        if (devices, train) not in compiled:
            compiled[devices, train] = jax.jit(
                jax.shard_map(
                    lambda state, starts, rates, data: train_step(state, starts, rates, data, program),
                    mesh=mesh,
                    in_specs=PartitionSpec(),
                    out_specs=PartitionSpec(),
                    check_vma=False,
                ),
                compiler_options=compiler_options(emitters=False),
            )
        state = init_state(program, RATES, seed=3) if state is None else state
        result = compiled[devices, train](state, starts, rates(**changes), train_data(trained.data))
        return jax.device_get(result)

    return SimpleNamespace(step=step, starts=starts)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize(("weights", "expected"), [(None, 0.0081), ([0.0, 2.0], 0.0018)])
def test_steps_weigh_in_the_loss_as_the_config_says(jit, weights, expected):
    """Steps of weights 4 and 1, with mean 1 so 1.6 and 0.4; errors of 0.04 and 0.02, a mean level of 0.45."""
    config = CONFIG.model_copy(update={"loss": LossConfig(horizon_weights={"1": 4.0})})
    program = Program(config, None, None, None, (), NO_FUNCTIONS)
    targets = jnp.array([[0.04, 0.0], [0.0, 0.02]])
    weights = None if weights is None else jnp.array(weights)

    def pinball(targets):
        losses = forecast_losses(jnp.zeros((2, 2, 3)), targets, jnp.ones(2), RATES, program, weights)
        return losses["quantile_loss"]

    assert (jax.jit(pinball) if jit else pinball)(targets) == pytest.approx(expected, rel=1e-5)


def assert_same(a, b):
    """Every leaf of two trees, bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, a, b)


def gradient(state):
    """After the first step, unclipped: Adam's first moment is a tenth of it."""
    return 10 * optax.tree.get(state.opt_state, "mu")


@pytest.mark.slow
def test_two_devices_make_the_gradient_of_one(trained, stepped):
    (one, metrics_one), (two, metrics_two) = stepped.step(1), stepped.step(2)
    assert np.linalg.norm(gradient(one)) == pytest.approx(metrics_one["gradient_norm"], rel=1e-5)
    tolerance = 1e-5 * abs(gradient(one)).max()
    np.testing.assert_allclose(gradient(two), gradient(one), rtol=1e-4, atol=tolerance)
    for name, value in metrics_one.items():
        np.testing.assert_allclose(metrics_two[name], value, rtol=1e-4, atol=1e-9, err_msg=name)
    # The comparison sees the dropout: without, or with other bits, the gradient is another one.
    later = trained.start._replace(step=np.int32(1))
    for other, _ in (stepped.step(1, dropout_rate=0.0), stepped.step(1, later)):
        assert abs(gradient(other) - gradient(one)).max() > 100 * tolerance


@pytest.mark.parametrize("devices", [1, 2])
def test_loss_and_moments_are_those_of_the_whole_batch(trained, stepped, devices):
    data = trained.data
    _, metrics = stepped.step(devices, dropout_rate=0.0)
    tree = to_tree(jnp.asarray(trained.start.params), trained.program.layout)
    inputs, _ = gather(jax.tree.map(jnp.asarray, data.series), stepped.starts, 5, 2)
    forecast, output = jax.jit(lambda tree, inputs: forecast_batch(trained.program.model, tree, inputs))(
        tree, inputs
    )
    forecast, regime = np.float64(forecast), np.float64(output.regime)
    target = data.panel.frame["y"].to_numpy()[np.asarray(stepped.starts)[:, None] + [5, 6]]
    median = forecast[:, :, 1]
    error, levels = target[:, :, None] - forecast, np.array(QUANTILES)
    pinball = np.where(error > 0, levels * error, (levels - 1) * error).mean()
    mean, std = median.mean(), median.std()
    balance = 0.01 * 2.0 * (2 * np.square(regime.mean(axis=0)).sum() - 1)
    loss = pinball + 0.7 * (mean - 0.0003) ** 2 + 1.3 * (std - 0.01) ** 2 + balance
    assert metrics["mu"] == pytest.approx(mean, rel=1e-4)
    assert metrics["sigma"] == pytest.approx(std, rel=1e-4)
    assert metrics["quantile_loss"] == pytest.approx(pinball, rel=1e-4)
    assert metrics["balance_penalty"] == pytest.approx(balance, rel=1e-3)
    assert metrics["loss"] == pytest.approx(loss, rel=1e-4)
    # Halves of the batch have other moments: their mean would not do.
    assert abs(np.mean([median[:3].std(), median[3:].std()]) / std - 1) > 1e-3


@pytest.mark.parametrize("norm", ["gradient_norm", "update_norm"])
def test_part_norms_add_up(trained, stepped, norm):
    state, metrics = stepped.step(1)
    parts = [value for name, value in metrics.items() if name.startswith(f"{norm}/")]
    assert len(parts) == 5
    assert np.sqrt(np.sum(np.square(parts))) == pytest.approx(metrics[norm], rel=1e-5)
    assert min(parts) > 0
    vector = {"gradient_norm": gradient(state), "update_norm": state.params - trained.start.params}[norm]
    output = to_tree(vector, trained.program.layout)
    entries = [leaf.ravel() for part in ("output", "output_gate") for leaf in jax.tree.leaves(output[part])]
    assert metrics[f"{norm}/output"] == pytest.approx(np.linalg.norm(np.concatenate(entries)), rel=1e-3)


@pytest.mark.slow
def test_gradient_control_moves_parts_as_asked(trained, stepped):
    train = TrainConfig(
        batch_size=BATCH,
        freeze=("embedding*", "*/weights/*/bias"),
        lr_multipliers={"lstm*": 0.25},
        gradient_scales={"attention/*": 3.0},
    )
    (plain, metrics_plain), (state, metrics) = stepped.step(1), stepped.step(1, train=train)
    later, _ = stepped.step(1, state, train)
    layout = trained.program.layout
    before, after, last = (to_tree(s.params, layout) for s in (trained.start, state, later))
    free, control, free_moment = (
        to_tree(v, layout) for v in (plain.params, gradient(state), gradient(plain))
    )
    assert_same(last["embedding_observed"], before["embedding_observed"])  # bit for bit
    weights = [tree["encoder_selection"]["weights"]["w1"] for tree in (before, last)]
    assert_same(weights[0]["bias"], weights[1]["bias"])
    assert not np.array_equal(weights[0]["kernel"], weights[1]["kernel"])
    moved = [
        t["lstm_encoder_0"]["recurrent_kernel"] - before["lstm_encoder_0"]["recurrent_kernel"]
        for t in (after, free)
    ]
    np.testing.assert_allclose(moved[0], 0.25 * moved[1], rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(
        control["attention"]["value_kernel"], 3 * free_moment["attention"]["value_kernel"], rtol=1e-5
    )
    assert metrics["update_norm/embeddings"] == 0
    # The gradient is reported as the loss gives it.
    for name in ("gradient_norm/embeddings", "gradient_norm/attention"):
        assert metrics[name] == metrics_plain[name] > 0


def test_what_is_watched_is_of_the_whole_validation_split(trained):
    state, metrics = trained.run(1)[0]
    starts = trained.data.starts["val"]
    series = jax.tree.map(jnp.asarray, trained.data.series)
    inputs, _ = gather(series, starts, 5, 2)
    params = to_tree(jnp.asarray(state.params), trained.program.layout)
    output = jax.jit(lambda p, i: trained.program.model.apply({"params": p}, i))(params, inputs)
    selection = np.float64(output.encoder_selection)  # [B, E, V]
    entropy = -(selection * np.log(selection)).sum(axis=2).mean() / np.log(selection.shape[2])
    assert metrics["val/selection_entropy"] == pytest.approx(entropy, rel=1e-4)
    attention = np.float64(output.attention)  # [B, H, P, T]: the first prediction step sees 6 steps, not 7
    assert not attention[:, :, 0, 6].any()
    first, second = attention[:, :, 0, :6], attention[:, :, 1]
    halves = [-(w * np.log(w)).sum(axis=-1).mean() / np.log(n) for w, n in ((first, 6), (second, 7))]
    assert metrics["val/attention_entropy"] == pytest.approx(np.mean(halves), rel=1e-4)
    median = np.asarray(inputs.center[0] + inputs.scale[0] * output.quantiles[:, :, 1])
    assert metrics["val/distinct_forecasts"] == pytest.approx(len(np.unique(np.round(median / 1e-6))), abs=1)


def test_learns_what_can_be_learned(trained):
    history = trained.run(25, learning_rate=0.02, dropout_rate=0.0, mean_weight=0.0, std_weight=0.0)
    losses = [metrics["loss"] for _, metrics in history]
    assert losses[-1] < 0.5 * losses[0]
    assert history[-1][1]["val/loss"] < 0.5 * history[0][1]["val/loss"]


def test_with_products_of_bfloat16_it_learns_and_its_state_is_float32(trained, tmp_path, caplog):
    model = CONFIG.model.model_copy(update={"dtype": "bfloat16"})
    config = CONFIG.model_copy(update={"model": model})
    engine = BatchEngine([Training("t", config, trained.data, tmp_path)])
    assert caplog.messages == [
        "model.dtype bfloat16 is slower on a CPU than float32, and rounds what it multiplies"
    ]
    engine.prepare(1)
    state, losses = trained.start, []
    for _ in range(25):
        values = rates(learning_rate=0.02, dropout_rate=0.0, mean_weight=0.0, std_weight=0.0)
        ((state, metrics),) = engine.epoch([state], [values], [0])
        losses.append(metrics["losses"])
    assert losses[-1].mean() < 0.5 * losses[0].mean()
    before, after = ([str(leaf.dtype) for leaf in jax.tree.leaves(s)] for s in (trained.start, state))
    assert before == after
    assert "bfloat16" not in after
    exact = trained.run(1, **values._asdict())[0][1]["losses"][0]  # before the first update
    assert 0 < abs(losses[0][0] - exact) < 0.05 * exact  # 1.3 % on one CPU: products have 8 bits


def test_an_epoch_of_steps(trained):
    (state, metrics), (later, _) = trained.run(2)
    steps = len(trained.data.starts["train"]) // BATCH
    assert steps > 5
    assert metrics["losses"].shape == (steps,)
    assert (state.epoch, state.step, later.epoch, later.step) == (1, steps, 2, 2 * steps)
    assert metrics["loss"] == pytest.approx(metrics["losses"].mean(), rel=1e-6)
    assert not np.array_equal(state.params, later.params)


def test_seeds_give_other_runs_and_the_same_seed_the_same(trained):
    assert_same(trained.run(1), trained.run(1))
    other = init_state(trained.program, RATES, seed=4)
    same_params = other._replace(params=trained.start.params, best_params=trained.start.best_params)
    # With the parameters of the first, what is left are the order of windows and the dropout.
    assert not np.array_equal(trained.run(1, same_params)[0][0].params, trained.run(1)[0][0].params)


def changed(rows, columns=("y", "x", "sign")):
    values = frame()
    values.iloc[rows.start : rows.stop, [values.columns.get_loc(name) for name in columns]] += 0.37
    return values


def test_nothing_of_the_test_split_reaches_training(trained):
    splits = trained.data.blocks[0].splits
    first, last = splits.test.start, splits.test.stop - 1
    untouched = trained.run(2)
    for rows in (splits.test, range(first, first + 1), range(last, last + 1)):
        assert_same(trained.run(2, values=changed(rows)), untouched)


def test_nothing_of_the_validation_split_reaches_the_parameters(trained):
    untouched = trained.run(2)
    splits = trained.data.blocks[0].splits
    for rows in (splits.val, range(splits.val.start, splits.val.start + 1)):
        for (state, metrics), (state_0, metrics_0) in zip(
            trained.run(2, values=changed(rows)), untouched, strict=True
        ):
            for name in ("params", "opt_state", "step", "epoch", "key"):
                assert_same(getattr(state, name), getattr(state_0, name))
            np.testing.assert_array_equal(metrics["losses"], metrics_0["losses"])
            assert metrics["val/loss"] != metrics_0["val/loss"]
    last = range(splits.train.stop - 1, splits.train.stop)
    assert not np.array_equal(trained.run(2, values=changed(last))[-1][0].params, untouched[-1][0].params)


def test_the_program_calls_no_lapack(trained):
    assert "all-reduce" in trained.text
    assert "lapack" not in trained.text.lower()
    # The name under which it would be found.
    with_qr = jax.jit(jnp.linalg.qr).lower(jnp.eye(3)).compile().as_text()
    assert "lapack" in with_qr.lower()


def test_arrays_of_a_state(trained):
    state = trained.run(1)[0][0]
    arrays = state_to_arrays(state, trained.program.layout)
    assert_same(arrays["params"], to_tree(state.best_params, trained.program.layout))
    again = state_from_arrays(arrays, trained.start)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    assert_same(again, state)
    dtypes = jax.tree.map(lambda leaf: np.asarray(leaf).dtype, again)
    assert dtypes == jax.tree.map(lambda leaf: np.asarray(leaf).dtype, trained.start)


def test_saved_restored_and_continued_is_uninterrupted(trained, tmp_path):
    whole = trained.run(4)
    arrays = state_to_arrays(whole[1][0], trained.program.layout)
    checkpoint.save(tmp_path, 2, arrays, {"any": "thing"}, best_epoch=1)
    saved = checkpoint.restore_latest(tmp_path)
    rest = trained.run(2, state_from_arrays(saved.arrays, trained.start))
    assert_same(rest, whole[2:])


def test_collapsed_forecasts_have_a_finite_gradient(trained, stepped):
    tree = to_tree(trained.start.params.copy(), trained.program.layout)
    tree["output"]["kernel"][:] = 0
    tree["output"]["bias"][:] = 0
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    collapsed = trained.start._replace(params=flat)
    state, metrics = stepped.step(2, collapsed)
    assert metrics["sigma"] == 0
    assert metrics["std_penalty"] == pytest.approx(1.3e-4, rel=1e-4)
    assert np.isfinite(gradient(state)).all()
    assert np.isfinite(state.params).all()
    assert metrics["gradient_norm/output"] > 0


def test_the_best_parameters_are_of_the_lowest_validation_loss(trained):
    history = trained.run(12, learning_rate=0.3)
    losses = [metrics["val/loss"] for _, metrics in history]
    # Or else the last state would do as well.
    assert any(losses[epoch] > min(losses[:epoch]) for epoch in range(1, len(losses)))
    for epoch, (state, _) in enumerate(history, start=1):
        so_far = int(np.argmin(losses[:epoch]))
        assert state.best_epoch == so_far + 1
        assert state.best_loss == losses[so_far]
        np.testing.assert_array_equal(state.best_params, history[so_far][0].params)
