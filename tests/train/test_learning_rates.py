"""The learning-rate range test: what is taken of losses, and losses of a real training."""

import numpy as np
import pytest
from tiny import make_rows, write_config

import tftjax
from tftjax.errors import UserError
from tftjax.train.__main__ import main as train_main
from tftjax.train.learning_rates import RATES, SMOOTHING, judged


@pytest.mark.parametrize("spoiled", [np.nan, np.inf])
def test_the_rate_is_a_tenth_of_that_of_the_lowest_smoothed_loss(spoiled):
    """One loss a step: 1, then 0 for good, then no number; the mean falls until then."""
    losses = np.ones((2, 300))
    losses[:, 100:] = 0.0
    losses[1, 200:] = spoiled
    found = judged(RATES, losses)
    assert found.lowest == RATES[199]
    assert found.suggested == 0.002  # of 0.00213
    assert np.isinf(found.smoothed[200:]).all()
    # Weights of the newest loss and of those before: (1 - s^101 shared) one loss of 0 after 100 of 1.
    assert found.smoothed[100] == pytest.approx(1 - (1 - SMOOTHING) / (1 - SMOOTHING**101))


def test_the_first_steps_decide_nothing():
    """Their mean is that of few losses."""
    losses = np.ones((1, 300))
    losses[0, 3] = 0.0
    losses[0, 150] = 0.0
    assert judged(RATES, losses).lowest == RATES[150]


def test_losses_that_are_no_numbers_from_the_start_suggest_nothing():
    with pytest.raises(UserError, match=r"a rate of 1e-05, expected numbers up to 2\.2e-05"):
        judged(RATES, np.full((2, 300), np.nan))


@pytest.mark.usefixtures("in_process")
def test_what_is_no_picture_or_asks_for_two_things_is_refused_before_training(tmp_path, capsys):
    config = str(write_config(tmp_path / "in", make_rows()))
    assert train_main([config, "--find-learning-rate", config, "--overwrite"]) == 2
    assert "not a picture's name" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train_main([config, "--final", "--find-learning-rate", "a.png"])
    assert "not allowed with argument --final" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
def test_the_command_draws_and_suggests_and_keeps_nothing_else(tmp_path, capsys):
    rows, folder = make_rows(), tmp_path / "in"
    config = write_config(folder, rows)
    command = [str(config), "--runs", str(tmp_path / "runs"), "--find-learning-rate", str(tmp_path / "a.png")]
    assert train_main(command) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert not (tmp_path / "runs").exists()
    assert train_main(command) == 2
    assert "a.png exists. Choose another file, or replace it: --overwrite" in capsys.readouterr().err

    found = tftjax.find_learning_rate(config=config)
    assert f"--set train.learning_rate={found.suggested:g} " in printed
    assert found.losses.shape == (300, 4)
    assert found.losses.index.name == "learning_rate"
    seeds = found.losses.drop(columns="smoothed")
    # Each seed starts elsewhere; all learn, and lose it at the last rates.
    assert seeds.iloc[0].nunique() == 3
    assert (seeds.rolling(30).mean().min() < 0.9 * seeds.iloc[:30].mean()).all()
    assert found.losses["smoothed"].iloc[-1] > 1.2 * found.losses["smoothed"].min()
    assert found.plot().axes
