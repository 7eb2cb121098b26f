"""Seeds of one config, trained side by side for a number of epochs, for the scripts of this folder."""

from pathlib import Path

from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import Config, from_dict
from tftjax.data.prepared import Data
from tftjax.model.parameters import Layout
from tftjax.train.engine import MembersEngine, Training
from tftjax.train.step import TrainState, init_state


def seeds_of(raw: dict, seeds: int) -> list[Config]:
    """The config with each of the seeds from 0 on."""
    return [from_dict(raw | {"train": raw["train"] | {"seed": seed}}, "bench") for seed in range(seeds)]


def train_seeds(configs: list[Config], data: Data, epochs: int) -> tuple[list[TrainState], Layout]:
    """The states after a number of epochs, and the layout of their parameters."""
    engine = MembersEngine([Training(f"s{config.train.seed}", config, data, Path()) for config in configs])
    engine.prepare(len(configs))
    numbers = [hyperparameters(config) for config in configs]
    states = [
        init_state(engine.program, values, config.train.seed)
        for values, config in zip(numbers, configs, strict=True)
    ]
    for _ in range(epochs):
        states = [state for state, _ in engine.epoch(states, numbers, range(len(configs)))]
    return states, engine.program.layout
