"""What pads data sets to one shape: the order of windows, counts, what tells two programs apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from train.test_step import CONFIG, frame

from tftjax.config.data import DataConfig
from tftjax.data.panel import make_panel
from tftjax.data.prepared import prepare as prepare_data
from tftjax.train.engine import data_shapes, stack_data
from tftjax.train.step import ROUNDS, shuffled


def prepare(**data):
    panel = make_panel(
        frame(), target="y", observed=("y", "x"), known_real=("sign",), known_categorical=("month",)
    )
    return prepare_data(panel, CONFIG.model_copy(update={"data": DataConfig(**data)}))


@pytest.mark.parametrize(
    ("count", "filling"), [(1, 3), (53, 0), (53, 2000), (1625, 11), (1626, 0), (1627, 5)]
)
def test_the_order_is_that_of_the_windows_alone(count, filling):
    starts = np.random.default_rng(1).permutation(count + filling).astype(np.int32)
    key = jax.random.key(5)
    order = jax.jit(shuffled)(key, jnp.asarray(starts), np.int32(count))
    alone = jax.random.permutation(key, jnp.asarray(starts[:count]))
    np.testing.assert_array_equal(order[:count], alone)
    np.testing.assert_array_equal(np.sort(order[count:]), np.sort(starts[count:]))
    assert count < 3 or not np.array_equal(alone, starts[:count])


def test_rounds_are_those_of_jax():
    def rounds(size):
        return int(np.ceil(3 * np.log(size) / np.log(2**32 - 1)))

    for number, fewest in enumerate(ROUNDS, start=1):
        assert (rounds(fewest - 1), rounds(fewest)) == (number - 1, number)


def test_data_sets_are_filled_up_to_the_most_windows():
    """Of 101 rows 60 train, then 20 or 15 validation; windows of 5 + 2 rows."""
    short, long = prepare(split=(0.6, 0.15, 0.25)), prepare(split=(0.7, 0.25, 0.05))
    stacked = stack_data([short, long])
    assert stacked.num_train.tolist() == [len(short.starts["train"]), len(long.starts["train"])] == [54, 64]
    assert stacked.num_val.tolist() == [14, 25 - 1]
    assert (stacked.train_starts.shape, stacked.val_starts.shape) == ((2, 64), (2, 24))
    np.testing.assert_array_equal(stacked.train_starts[0, :54], short.starts["train"])
    np.testing.assert_array_equal(stacked.train_starts[1], long.starts["train"])
    assert set(stacked.val_starts[0, 14:].tolist()) == {short.starts["val"][-1]}
    # Each series is in units of its own scaler.
    assert stacked.series.scale[0, 0] == short.series.scale[0] != long.series.scale[0]


def test_shapes_tell_programs_apart():
    plain = data_shapes(prepare())
    assert data_shapes(prepare(split=(0.6, 0.15, 0.25))) == plain
    divided = data_shapes(prepare(target_scale="ewma"))
    assert divided != plain
    assert divided["volatility"] == [(101,)]
    other = frame().assign(month=np.arange(101) % 4)
    panel = make_panel(
        other, target="y", observed=("y", "x"), known_real=("sign",), known_categorical=("month",)
    )
    assert data_shapes(prepare_data(panel, CONFIG)) != plain
