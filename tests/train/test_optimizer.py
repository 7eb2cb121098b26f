"""The optimizer against Adam and AdamW in numpy, and its schedule worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import Config
from tftjax.config.train import TrainConfig
from tftjax.train.optimizer import make_optimizer, unit_schedule

DECAYED = np.array([1, 1, 0, 0, 1], np.float32)
RATES = hyperparameters(Config())._replace(learning_rate=0.03, weight_decay=0.2, max_grad_norm=1.5)


def train_config(optimizer="adam", schedule="constant", warmup_epochs=0):
    return TrainConfig(optimizer=optimizer, schedule=schedule, warmup_epochs=warmup_epochs, max_epochs=3)


def run(gradients, params, train, rates=RATES, scales=(None, None)):
    """Parameters after each step."""
    optimizer = make_optimizer(train, rates, 4, DECAYED, *scales)
    params = jnp.asarray(params)
    state, after = optimizer.init(params), []
    for gradient in gradients:
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        after.append(np.asarray(params))
    return np.array(after), state


def reference(gradients, params, shares, decay, scale=1.0, multiplier=1.0):
    """Kingma and Ba (2015) with clipping by norm, and the decay of Loshchilov and Hutter (2019)."""
    params = np.float64(params)
    m, v, after = np.zeros(5), np.zeros(5), []
    for t, gradient in enumerate(np.float64(gradients), start=1):
        gradient = scale * gradient
        gradient = gradient * min(1.0, 1.5 / np.linalg.norm(gradient))
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        direction = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        params = params - multiplier * 0.03 * shares[t - 1] * (direction + decay * DECAYED * params)
        after.append(params)
    return np.array(after)


@pytest.fixture
def steps():
    """Gradients, of norms below and above the clip, and parameters."""
    rng = np.random.default_rng(3)
    gradients = rng.normal(size=(7, 5)) * np.array([0.1, 10, 0.3, 2, 1, 100, 0.01])[:, None]
    return gradients.astype(np.float32), rng.normal(size=5).astype(np.float32)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("schedule", ["constant", "warmup_cosine"])
def test_against_numpy(steps, optimizer, schedule):
    train = train_config(optimizer, schedule, 1 if schedule == "warmup_cosine" else 0)
    cosine = [0, 0.25, 0.5, 0.75] + [(1 + np.cos(np.pi * n / 8)) / 2 for n in range(3)]
    shares = cosine if schedule == "warmup_cosine" else [1] * 7
    expected = reference(*steps, shares, 0.2 if optimizer == "adamw" else 0.0)
    np.testing.assert_allclose(run(*steps, train)[0], expected, rtol=1e-4, atol=1e-6)


def test_scales_of_gradient_and_update_against_numpy(steps):
    scale, multiplier = np.float32([1, 0, 5, 0.1, 1]), np.float32([0.1, 0, 1, 3, 1])
    after, _ = run(*steps, train_config("adamw"), scales=(scale, multiplier))
    expected = reference(*steps, [1] * 7, 0.2, scale, multiplier)
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(after[:, 1], np.full(7, steps[1][1]))  # frozen, though it decays
    assert np.ptp(np.delete(after, 1, axis=1), axis=0).min() > 0
    # What is not set costs no operation, and no entry of the state.
    states = [run(*steps, train_config(), scales=s)[1] for s in ((None, None), (scale, multiplier))]
    assert len(states[0]) == len(states[1]) - 2 == 4


@pytest.mark.parametrize("size", [0.2, 1.5, 30.0])
def test_clips_at_the_norm(size):
    gradient = np.float32([3, 4, 0, 0, 0]) / 5 * size
    _, state = run([gradient], np.zeros(5, np.float32), train_config())
    moment = optax.tree.get(state, "mu")  # 0.1 times the clipped gradient
    np.testing.assert_allclose(moment, 0.1 * gradient * min(1, 1.5 / size), rtol=1e-6)


def test_first_step_is_the_learning_rate():
    gradient = np.float32([1e-3, -5, 0.2, -1e-4, 7])
    after, _ = run([gradient], np.zeros(5, np.float32), train_config())
    np.testing.assert_allclose(after[0], -0.03 * np.sign(gradient), rtol=1e-3)


def test_decays_kernels_alone():
    params = np.float32([1, -2, 3, -4, 5])
    still = np.zeros((1, 5), np.float32)
    np.testing.assert_allclose(
        run(still, params, train_config("adamw"))[0][0], params * (1 - 0.03 * 0.2 * DECAYED), rtol=1e-6
    )
    np.testing.assert_array_equal(run(still, params, train_config("adam"))[0][0], params)


def test_warmup_cosine_by_hand():
    schedule = unit_schedule(train_config(schedule="warmup_cosine", warmup_epochs=1), steps_per_epoch=4)
    values = [float(schedule(step)) for step in (0, 1, 2, 4, 6, 8, 10, 12, 13)]
    half = np.sqrt(0.5)
    expected = [0, 0.25, 0.5, 1, (1 + half) / 2, 0.5, (1 - half) / 2, 0, 0]
    np.testing.assert_allclose(values, expected, atol=1e-6)


def test_warmup_as_a_share_of_the_run():
    train = TrainConfig(schedule="warmup_cosine", warmup_share=0.25, max_epochs=3, max_steps=8)
    schedule = unit_schedule(train, steps_per_epoch=4)  # the third epoch is not begun
    found = [float(schedule(step)) for step in (0, 1, 2, 5, 8)]
    np.testing.assert_allclose(found, [0, 0.5, 1, 0.5, 0], atol=1e-6)
    longer = train.model_copy(update={"max_steps": 99})  # more than max_epochs have
    found = [float(unit_schedule(longer, steps_per_epoch=4)(step)) for step in (0, 3, 12)]
    np.testing.assert_allclose(found, [0, 1, 0], atol=1e-6)


def test_cosine_without_warmup_starts_at_the_peak():
    schedule = unit_schedule(train_config(schedule="warmup_cosine"), steps_per_epoch=4)
    np.testing.assert_allclose([float(schedule(step)) for step in (0, 6, 12)], [1, 0.5, 0], atol=1e-6)


def test_constant_schedule():
    schedule = unit_schedule(train_config(), steps_per_epoch=4)
    assert [float(schedule(step)) for step in (0, 5, 1000)] == [1, 1, 1]


def test_hyperparameters_may_be_traced(steps):
    gradients, params = steps
    train = train_config("adamw", "warmup_cosine", 1)

    def last(rates):
        optimizer = make_optimizer(train, rates, 4, DECAYED)

        def step(carry, gradient):
            params, state = carry
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        start = (jnp.asarray(params), optimizer.init(jnp.asarray(params)))
        return jax.lax.scan(step, start, jnp.asarray(gradients))[0][0]

    members = [RATES, RATES._replace(learning_rate=0.5, weight_decay=0.0, max_grad_norm=0.01)]
    stacked = jax.tree.map(lambda *leaves: jnp.array(leaves, jnp.float32), *members)
    together = jax.jit(jax.vmap(last))(stacked)
    for got, rates in zip(together, members, strict=True):
        np.testing.assert_allclose(got, run(gradients, params, train, rates)[0][-1], rtol=1e-5, atol=1e-6)
    assert not np.allclose(together[0], together[1])
