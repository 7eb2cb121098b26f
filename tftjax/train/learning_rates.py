"""The learning-rate range test: the training loss while the rate grows from step to step.

Source: Smith 2017, "Cyclical learning rates for training neural networks", section 3.3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Float32

from tftjax.config.functions import NO_FUNCTIONS
from tftjax.config.hyperparameters import Hyperparameters
from tftjax.config.hyperparameters import hyperparameters as hyperparameters_of
from tftjax.config.loading import Config
from tftjax.data.prepared import Data
from tftjax.errors import UserError
from tftjax.runtime import OnMesh, device_mesh
from tftjax.train.step import (
    KEY_IMPL,
    Program,
    TrainData,
    TrainState,
    decided_by,
    init_state,
    make_program,
    shuffled,
    train_data,
    train_step,
)

RATES = np.geomspace(1e-5, 1.0, 300)  # Adam learns nothing at the first, and loses all at the last
SEEDS = 3  # of which the mean is looked at
SMOOTHING = 0.95  # decay a step of the mean of losses: most of a batch's loss is its days' luck
BEGUN = 20  # steps after which that mean is one
SAFETY = 10.0  # the rate to take is so many times below that of the lowest loss


class RangeTest(NamedTuple):
    """The result of a range test.

    Attributes:
      rates: learning rates, ascending.
      losses: the loss of the batch before the step with each rate, in return units, by seed.
      smoothed: their mean over seeds, smoothed over the steps before.
      lowest: the rate of the lowest smoothed loss.
      suggested: the rate to train with.
    """

    rates: Float[np.ndarray, " N"]
    losses: Float[np.ndarray, "S N"]
    smoothed: Float[np.ndarray, " N"]
    lowest: float
    suggested: float


def losses_of_rates(
    state: TrainState, hyperparameters: Hyperparameters, data: TrainData, *, program: Program
) -> Float32[Array, " N"]:
    """The loss of each step's batch, before the step, while the learning rate goes through `RATES`.

    Batches come in the random order of the state's key, and again where there are fewer of them than rates.
    """
    batch_size, rates = program.config.train.batch_size, jnp.asarray(RATES, jnp.float32)
    num_batches = data.train_starts.shape[0] // batch_size
    key = jax.random.wrap_key_data(state.key, impl=KEY_IMPL)
    order = shuffled(key, data.train_starts, data.num_train)[: num_batches * batch_size]
    batches = order.reshape(num_batches, batch_size)

    def step(number, carry):
        state, losses = carry
        now = hyperparameters._replace(learning_rate=rates[number])
        state, metrics = train_step(state, batches[number % num_batches], now, data, program)
        return state, losses.at[number].set(metrics["loss"])

    return jax.lax.fori_loop(0, len(RATES), step, (state, jnp.zeros(len(RATES))))[1]


def range_test(config: Config, data: Data) -> RangeTest:
    """Trains from a few seeds, each for as many steps as there are rates; nothing is kept.

    Args:
      config: its learning rate and its schedule are not used.
    """
    constant = {"schedule": "constant", "warmup_epochs": 0, "warmup_share": 0.0, "max_steps": None}
    config = config.model_copy(update={"train": config.train.model_copy(update=constant)})
    program = make_program(config, data, device_mesh(config.train.batch_size), NO_FUNCTIONS)
    everywhere = PartitionSpec()
    run = OnMesh(
        lambda *arguments: [losses_of_rates(*arguments, program=program)],
        (losses_of_rates, *decided_by(program)),
        program.mesh,
        (everywhere,) * 3,
        everywhere,
        emitters=False,
    )
    values = jax.tree.map(np.float32, hyperparameters_of(config))
    arrays, first = train_data(data), config.train.seed
    seeds = range(first, first + SEEDS)
    (losses,) = zip(*(run(init_state(program, values, seed), values, arrays) for seed in seeds), strict=True)
    return judged(RATES, np.array(losses, np.float64))


def judged(rates: Float[np.ndarray, " N"], losses: Float[np.ndarray, "S N"]) -> RangeTest:
    """The range test of losses by seed and rate; a loss that is no number is infinite.

    Raises:
      UserError: such a loss already in the first steps.
    """
    mean = pd.Series(np.where(np.isfinite(losses), losses, np.inf).mean(axis=0))
    ended = np.isinf(mean).cummax()
    smoothed = mean.where(~ended).ewm(alpha=1 - SMOOTHING).mean().mask(ended, np.inf).to_numpy()
    if ended[BEGUN]:
        raise UserError(
            "learning-rate range test: found a loss that is no number at a rate of"
            f" {rates[int(np.argmax(ended))]:.2g}, expected numbers up to {rates[BEGUN]:.2g} at least. Look"
            " at the data (tftjax data validate) and at penalties of your own."
        )
    lowest = float(rates[BEGUN + int(np.argmin(smoothed[BEGUN:]))])
    return RangeTest(rates, losses, smoothed, lowest, float(f"{lowest / SAFETY:.1g}"))
