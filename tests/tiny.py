"""A tiny run for the end-to-end tests: its data, its config, the commands as processes; fixtures."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tftjax import runtime
from tftjax.config.functions import Functions, source_hash
from tftjax.config.loading import Config, from_dict
from tftjax.data.loading import load_panel
from tftjax.data.panel import Panel
from tftjax.data.prepared import cardinalities, prepare
from tftjax.data.series.reading import NO_VINTAGES
from tftjax.data.windows import gather
from tftjax.evaluate import evaluation, scoring
from tftjax.evaluate.baselines import BASELINES
from tftjax.model.parameters import build_model, init_parameters, parameter_layout, to_tree
from tftjax.plots import theme
from tftjax.storage import checkpoint, runs
from tftjax.train import engine
from tftjax.walkforward import pool

ROOT = Path(__file__).parents[1]
EPOCHS = 8
ENCODER_LENGTH = 5
QUANTILES = ["0.02", "0.1", "0.25", "0.5", "0.75", "0.9", "0.98"]
TIMES = ("seconds", "windows_per_s")
# What an epoch's program returns besides losses, of a training that nothing is wrong with.
HEALTHY = {
    "quantile_loss": 0.0,
    "val/sigma": 0.01,
    "val/share_positive": 0.5,
    "val/distinct_forecasts": 1e6,
    "val/attention_entropy": 0.5,
    "val/selection_entropy": 0.5,
    **{f"{name}_penalty": 0.0 for name in ("mean", "std", "marginal", "directional", "crossing")},
    **{
        f"gradient_norm/{part}": 1.0
        for part in ("embeddings", "variable_selection", "lstm", "attention", "output")
    },
}


def make_rows(num_rows: int = 320) -> pd.DataFrame:
    """Rows of a panel CSV with the columns of `core_embedded`: noise, returns as decimals."""
    rng = np.random.default_rng(7)
    noise = pd.DataFrame(
        rng.standard_normal((num_rows, 6)),
        index=pd.bdate_range("2001-01-01", periods=num_rows, name="date"),
        columns=[
            "SP500_Returns",
            "Realized_Vol_21d",
            "WTI_Return_21d",
            "AAA_Yield",
            "Credit_Spread",
            "Core_Inflation_YoY",
        ],
    )
    rows = noise * [0.01, 1.0, 0.05, 0.1, 0.1, 0.1] + [0.0003, 15.0, 0.0, 4.0, 1.0, 2.0]
    return rows.round(6)


def write_config(folder: Path, rows: pd.DataFrame | str, **sections: dict) -> Path:
    """Writes `panel.csv` and `tiny.json` into a folder; returns the config's path."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "panel.csv"
    data.write_text(rows if isinstance(rows, str) else rows.to_csv(), encoding="utf-8")
    content = {
        "data": {"dataset": str(data)},
        "model": {"hidden_size": 4, "num_heads": 2, "encoder_length": ENCODER_LENGTH},
        "loss": {"mean_weight": 0.1, "std_weight": 0.1},
        "train": {"batch_size": 32, "max_epochs": EPOCHS, "learning_rate": 0.003},
    }
    for name, section in sections.items():
        content[name] = content.get(name, {}) | section if isinstance(section, dict) else section
    path = folder / "tiny.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def begin_run(directory: Path, config: Config, panel: Panel, **how: bool) -> bool:
    """Makes a run's directory, or finds the one to go on with; returns whether there was one."""
    with runs.claim(directory, config, panel, **how) as goes_on:
        return goes_on


def contents(directory: Path) -> dict[str, bytes]:
    """All files below a directory."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def metric_lines(directory: Path, without: tuple[str, ...] = TIMES) -> list[dict]:
    """The lines of metrics.jsonl, without what differs from one computation to the next."""
    lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in without} for line in lines]


def assert_same_arrays(a: dict, b: dict, where: str = "") -> None:
    """Asserts that two nested dicts hold the same bits."""
    assert a.keys() == b.keys(), where
    for name in a:
        if isinstance(a[name], dict):
            assert_same_arrays(a[name], b[name], f"{where}/{name}")
        else:
            assert (a[name].dtype, a[name].shape) == (b[name].dtype, b[name].shape), f"{where}/{name}"
            assert a[name].tobytes() == b[name].tobytes(), f"{where}/{name}"


def assert_same_run(a: Path, b: Path) -> None:
    """Asserts that two runs ended in the same bits: state, metrics, evaluation."""
    saved_a, saved_b = (checkpoint.restore_latest(path / "checkpoints") for path in (a, b))
    assert saved_a.epoch == saved_b.epoch
    assert_same_arrays(saved_a.arrays, saved_b.arrays)
    assert metric_lines(a) == metric_lines(b)
    for name in ("metrics.json", "predictions.csv"):
        assert (a / "evaluation" / name).read_bytes() == (b / "evaluation" / name).read_bytes(), name


class Commands:
    """Starts the package's commands as processes that share the tests' compilation cache."""

    def __init__(self, cache: Path):
        flags = "--xla_backend_optimization_level=0"  # how many devices there are, the command decides
        own = {"MPLCONFIGDIR": str(cache), "PYTHONUNBUFFERED": "1", "XLA_FLAGS": flags}
        self.environment = os.environ | own

    def start(self, module: str, *arguments, **keywords) -> subprocess.Popen:
        """Starts `python -m tftjax.MODULE ARGUMENTS`."""
        command = [sys.executable, "-m", f"tftjax.{module}", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=ROOT, env=self.environment, **pipes | keywords)

    def run(self, module: str, *arguments, code: int = 0, **keywords) -> tuple[str, str]:
        """Runs a command to its end; returns stdout and stderr."""
        process = self.start(module, *arguments, **keywords)
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, err
        assert "Traceback" not in err
        return out, err

    def interrupt_when(
        self, condition, sent: signal.Signals, *arguments, module: str = "train"
    ) -> tuple[int, str, str]:
        """Runs a training and sends it a signal as soon as `condition()` holds."""
        process = self.start(module, *arguments)
        deadline = time.monotonic() + 300
        while not condition():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                pytest.fail(f"the moment never came: {process.communicate()}")
            time.sleep(0.001)
        process.send_signal(sent)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


def run_here(main, *arguments, code: int = 0) -> tuple[str, str]:
    """Runs a command's `main` in this process, where its process is not what is tested; as `Commands.run`."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(runtime, "configure", lambda: None)
        ended = main([str(argument) for argument in arguments])
    assert ended == code, err.getvalue()
    return out.getvalue(), err.getvalue()


def untrained(directory, rows, *, functions=None, model=None, train=None, vintages=NO_VINTAGES, **data):
    """A run with random parameters on a frame, or on a panel: 5 rows of the past, 2 steps."""
    model = {"hidden_size": 4, "encoder_length": 5, "prediction_length": 2, **(model or {})}
    functions = functions or Functions()
    hashes = {"head": {name: source_hash(one) for name, one in functions.head.items()}}
    content = {"data": data, "model": model, "train": train or {}, "functions": hashes}
    config = from_dict(content, "test")
    panel = load_panel(config.data, rows, vintages) if isinstance(rows, pd.DataFrame) else rows
    prepared = prepare(panel, config)
    network = build_model(config, *cardinalities(panel, prepared.encoding), functions)
    lengths = config.model.encoder_length, config.model.prediction_length
    inputs, _ = gather(prepared.series, np.zeros(1, np.int32), *lengths)
    layout = parameter_layout(network, inputs)
    vector = init_parameters(layout, 5)
    vector += 0.3 * np.random.default_rng(6).standard_normal(vector.shape, np.float32)
    return runs.Run(directory, config, prepared, to_tree(vector, layout), 1, functions)


def no_picture(path, drawing) -> None:
    """Stands for `theme.save`, whose pictures take a second or more a run."""
    path.write_bytes(b"\x89PNG")


def random_epochs(program, *, emitters):
    """Stands for the program of training: moves the parameters a little at random, and always improves."""

    def epoch(state, hyperparameters, data):
        number = np.int32(state.epoch + 1)
        loss, draws = np.float32(1e-3 / number), np.random.default_rng(number)
        params = state.params + 0.02 * draws.standard_normal(state.params.shape, np.float32)
        moved = state._replace(params=params, step=np.int32(state.step + 2), epoch=number)
        moved = moved._replace(best_params=params, best_epoch=number, best_loss=loss)
        return moved, {"loss": loss, "val/loss": loss, "losses": np.full(2, loss), "steps": 2, **HEALTHY}

    epoch.executable = lambda *arguments: None  # as if compiled
    return epoch


@contextlib.contextmanager
def few_baselines(*names: str):
    """Runs are evaluated beside these baselines and `unconditional` alone, and no PNG is drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "BASELINES", {name: BASELINES[name] for name in ("unconditional", *names)})
        patch.setattr(theme, "save", no_picture)
        yield


@contextlib.contextmanager
def without_training(*baselines: str):
    """`few_baselines`, and what trains a run is `random_epochs`, which takes no compilation.

    For tests of how a run is made and of what it forecasts, whatever it has learned.
    """
    with few_baselines(*baselines), pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "compile_epoch", random_epochs)
        yield


class TrainedRun:
    """The shared run: never interrupted, left as it was made. Copy it before changing anything."""

    def __init__(self, folder: Path, commands: Commands):
        self.config = write_config(folder, make_rows())
        self.runs = folder / "runs"
        self.directory = self.runs / "tiny"
        self.rows = make_rows()
        self.out, self.err = commands.run("train", self.config, "--runs", self.runs)


@pytest.fixture(scope="session")
def commands(tmp_path_factory) -> Commands:
    return Commands(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory, commands) -> TrainedRun:
    return TrainedRun(tmp_path_factory.mktemp("trained"), commands)


@pytest.fixture
def in_process(monkeypatch) -> None:
    """Lets a test call an entry point's `main` without its settings for the whole process."""
    monkeypatch.setattr(runtime, "configure", lambda: None)


@pytest.fixture
def no_pictures(monkeypatch) -> None:
    """For tests that look at no PNG."""
    monkeypatch.setattr(theme, "save", no_picture)


@pytest.fixture(scope="module")
def shared_baselines():
    """What a file evaluates in this process shares the scores of baselines on the same data, as a sweep does.

    For files that evaluate again and again and look at baselines once: they take as long as the training.
    """
    known: dict = {}

    def score_baselines(run, windows, _=None):
        return scoring.score_baselines(run, windows, known)

    with pytest.MonkeyPatch.context() as patch:
        for module in (evaluation, pool):
            patch.setattr(module, "score_baselines", score_baselines)
        yield


@pytest.fixture(scope="module")
def quick_evaluation(shared_baselines):
    """`shared_baselines`, and no PNG is drawn: for files that do not look at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theme, "save", no_picture)
        yield
