"""A search in several processes, one of them killed."""

import json
import signal
import time

import pandas as pd
import pytest
from tiny import few_baselines, make_rows, run_here, write_config

from tftjax.config.loading import load
from tftjax.storage.directories import SearchDirectory
from tftjax.train.__main__ import main as train_main

TRIALS = 8
SPACE = {"train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}


@pytest.mark.slow
def test_a_second_process_joins_the_first_is_killed_and_a_third_goes_on(commands, tmp_path):
    config = write_config(tmp_path / "in", make_rows(), train={"max_epochs": 20, "patience": 20})
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    flags = ["--space", tmp_path / "space.json", "--seeds", 1, "--runs", tmp_path, "--name", "found"]
    arguments = [config, *flags, "--trials", TRIALS, "--pruner", "none"]
    directory = SearchDirectory(tmp_path / "found")

    def begun():
        return sum(path.joinpath("metrics.jsonl").exists() for path in directory.trials.glob("*"))

    def wait(condition, *processes):
        deadline = time.monotonic() + 300
        while not condition():
            assert all(process.poll() is None for process in processes)
            assert time.monotonic() < deadline
            time.sleep(0.01)

    first = commands.start("sweep.tune", *arguments)
    wait(lambda: begun() >= 2, first)
    second = commands.start("sweep.tune", *arguments, "--resume")
    wait(lambda: begun() >= 4, first, second)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    out, err = second.communicate(timeout=300)
    assert second.returncode == 0, err
    assert "2 in training" in out
    out, err = commands.run("sweep.tune", *arguments, "--resume")
    assert "going on with trials" in err
    table = pd.read_csv(directory.table)
    assert (table["state"] == "complete").tolist() == [True] * TRIALS
    assert set(table["epochs"]) == {20}
    assert f"tftjax train {directory.best}" in " ".join(out.split())
    best = load(directory.best)
    assert best.train.learning_rate == table["train.learning_rate"][table["pinball"].idxmin()]
    with few_baselines():
        run_here(train_main, directory.best, "--runs", tmp_path, "--set", "train.max_epochs=1")
    assert (tmp_path / "found-best" / "evaluation" / "metrics.json").exists()
