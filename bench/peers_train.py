"""Trains a TFT in one of several libraries, an epoch at a time: `peers.py` starts a process for each.

`python peers_train.py LIBRARY TASK.npz` trains until standard input ends: a line with the number of threads
starts an epoch, and a line of JSON on standard output has its seconds. Nothing is logged, saved or validated
there, except that tftjax validates: its epoch is one program. `--runs N` trains N times to early stopping on
the validation rows, without waiting. Standard output is kept for the answers; the libraries
print on standard error.
"""

import argparse
import json
import logging
import math
import os
import sys
import tempfile
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FOREVER = 100_000  # epochs


class Task(NamedTuple):
    """The data and the sizes of the model, the same in every library.

    Attributes:
      observed: V x N, standardised; the first is the target. All rows are train rows.
      known: Vc x N, codes from 1.
      later_observed: V x M, the last rows before the first validation step, and the validation rows.
      later_known: Vc x M.
    """

    observed: np.ndarray
    known: np.ndarray
    later_observed: np.ndarray
    later_known: np.ndarray
    quantiles: np.ndarray
    config: str
    encoder_length: int
    prediction_length: int
    hidden_size: int
    num_heads: int
    dropout_rate: float
    batch_size: int
    learning_rate: float
    max_grad_norm: float
    patience: int

    @property
    def num_windows(self) -> int:
        """Windows in the rows."""
        return self.observed.shape[1] - self.encoder_length - self.prediction_length + 1

    @property
    def steps(self) -> int:
        """Full batches in an epoch."""
        return self.num_windows // self.batch_size

    @property
    def levels(self) -> list[float]:
        """The quantiles, as the libraries take them."""
        return [float(level) for level in self.quantiles]


class Pace:
    """Writes the seconds of each epoch.

    Args:
      answers: the file to write to.
      threads: number of threads to train with; 0 reads it from a line of standard input before each epoch.
    """

    def __init__(self, answers, threads: int = 0):
        self.answers, self.threads, self.started = answers, threads, None

    def tell(self, **answer) -> None:
        """Writes a line of JSON."""
        print(json.dumps(answer), file=self.answers, flush=True)

    def begin(self, set_threads=lambda _: None) -> None:
        """Called where an epoch begins: its time lasts to the next call."""
        if self.started is not None:
            self.tell(seconds=time.perf_counter() - self.started)
        set_threads(self.threads or self._told())
        self.started = time.perf_counter()

    def _told(self) -> int:
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        return int(line)


# ---- The libraries: each trains the task for some epochs ---------------------------------------------------


def trainer_settings(task: Task, pace: Pace, lightning) -> dict[str, Any]:
    """Settings of the trainers of all libraries but tftjax.

    Args:
      lightning: the package that the library uses, `lightning.pytorch` or `pytorch_lightning`.
    """
    import torch

    class Paced(lightning.Callback):
        def on_train_start(self, trainer, module):
            assert trainer.num_training_batches in (task.steps, math.inf)
            pace.tell(parameters=sum(p.numel() for p in module.parameters() if p.requires_grad))

        def on_train_epoch_start(self, trainer, module):
            pace.begin(torch.set_num_threads)

    return {
        "max_epochs": FOREVER,
        "accelerator": "cpu",
        "gradient_clip_val": task.max_grad_norm,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [Paced()],
    }


def train_tftjax(task: Task, pace: Pace) -> None:
    """The run of `python -m tftjax.train`, on all cores, with its validation."""
    from tftjax import runtime
    from tftjax.config.loading import load
    from tftjax.data.loading import load_panel
    from tftjax.data.prepared import prepare
    from tftjax.storage import runs
    from tftjax.train.engine import BatchEngine, Training
    from tftjax.train.loop import Group, train_members
    from tftjax.train.step import make_program

    runtime.configure()
    keys = ("max_epochs", "patience", "checkpoint_every")
    config = load(task.config, [f"train.{key}={FOREVER}" for key in keys])
    data = prepare(load_panel(config.data), config)
    assert len(data.starts["train"]) == task.num_windows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        pace.tell(parameters=make_program(config, data, runtime.device_mesh(1)).layout.size)
        with runs.claim(folder, config, data.whole):
            pace.begin()
            group = Group([Training(config.name, config, data, folder)])
            train_members(group, BatchEngine, {}, lambda round_: pace.begin())


def train_pytorch_forecasting(task: Task, pace: Pace) -> None:
    """Its loss is twice ours. Logging metrics at each step is turned off.

    Its loader takes longer than its model: a process a core for it makes it faster, unlike the others. With
    threads set beforehand, it stops as tftjax does: when no validation loss was lower for `patience` epochs.
    """
    import lightning.pytorch as lightning
    import pandas as pd
    import torch
    from pytorch_forecasting import QuantileLoss, TemporalFusionTransformer, TimeSeriesDataSet

    real = [f"observed{number}" for number in range(len(task.observed))]
    known = [f"known{number}" for number in range(len(task.known))]

    def frame(observed, codes):
        columns = dict(zip(real, observed.astype(np.float32), strict=True))
        columns |= dict(zip(known, codes.astype(str), strict=True))
        return pd.DataFrame(columns).assign(series="0", row=np.arange(observed.shape[1]))

    data = TimeSeriesDataSet(
        frame(task.observed, task.known),
        time_idx="row",
        target=real[0],
        group_ids=["series"],
        min_encoder_length=task.encoder_length,
        max_encoder_length=task.encoder_length,
        max_prediction_length=task.prediction_length,
        time_varying_known_categoricals=known,
        time_varying_unknown_reals=real,
        target_normalizer=None,
        scalers={name: None for name in real[1:]},
    )
    assert len(data) == task.num_windows
    model = TemporalFusionTransformer.from_dataset(
        data,
        hidden_size=task.hidden_size,
        hidden_continuous_size=task.hidden_size,
        attention_head_size=task.num_heads,
        dropout=task.dropout_rate,
        loss=QuantileLoss(task.levels),
        output_size=len(task.levels),
        learning_rate=task.learning_rate,
        optimizer="adam",
        log_interval=-1,
        logging_metrics=torch.nn.ModuleList([]),
    )
    processes = {"num_workers": os.cpu_count(), "persistent_workers": True}
    loader = data.to_dataloader(train=True, batch_size=task.batch_size, **processes)
    settings = trainer_settings(task, pace, lightning)
    later = None
    if pace.threads:
        later = TimeSeriesDataSet.from_dataset(data, frame(task.later_observed, task.later_known))
        later = later.to_dataloader(train=False, batch_size=4 * task.batch_size, **processes)
        stop = lightning.callbacks.EarlyStopping("val_loss", patience=task.patience)
        settings |= {"callbacks": [*settings["callbacks"], stop], "num_sanity_val_steps": 0}
    lightning.Trainer(**settings).fit(model, loader, later)


def train_darts(task: Task, pace: Pace) -> None:
    """Known inputs can only be numbers."""
    import pytorch_lightning as lightning
    from darts import TimeSeries
    from darts.models import TFTModel
    from darts.utils.likelihood_models.torch import QuantileRegression

    target, past, future = (
        TimeSeries.from_values(rows.T.astype(np.float32))
        for rows in (task.observed[:1], task.observed[1:], task.known)
    )
    model = TFTModel(
        input_chunk_length=task.encoder_length,
        output_chunk_length=task.prediction_length,
        hidden_size=task.hidden_size,
        hidden_continuous_size=task.hidden_size,
        num_attention_heads=task.num_heads,
        full_attention=True,
        dropout=task.dropout_rate,
        skip_interpolation=True,
        likelihood=QuantileRegression(task.levels),
        optimizer_kwargs={"lr": task.learning_rate},
        batch_size=task.batch_size,
        n_epochs=FOREVER,
        pl_trainer_kwargs=trainer_settings(task, pace, lightning),
    )
    model.fit(target, past, future, dataloader_kwargs={"drop_last": True, "num_workers": 0})


def train_neuralforecast(task: Task, pace: Pace) -> None:
    """Known inputs can only be numbers, and windows are drawn anew at each step.

    A pass through its loader is one step for each series: so that it is an epoch, the series stands there
    once for each step. That costs no time: a step takes as long as with a single series.
    """
    import pandas as pd
    import pytorch_lightning as lightning
    from neuralforecast.losses.pytorch import MQLoss
    from neuralforecast.models import TFT
    from neuralforecast.tsdataset import TimeSeriesDataset

    past = [f"observed{number}" for number in range(1, len(task.observed))]
    future = [f"known{number}" for number in range(len(task.known))]
    columns = dict(zip(["y", *past, *future], [*task.observed, *task.known], strict=True))
    frame = pd.DataFrame({name: values.astype(np.float32) for name, values in columns.items()})
    frame["ds"] = np.arange(len(frame))
    frame = pd.concat([frame.assign(unique_id=number) for number in range(task.steps)])
    data, *_ = TimeSeriesDataset.from_df(frame, id_col="unique_id", time_col="ds", target_col="y")
    settings = trainer_settings(task, pace, lightning)
    del settings["max_epochs"]
    model = TFT(
        h=task.prediction_length,
        input_size=task.encoder_length,
        hist_exog_list=past,
        futr_exog_list=future,
        hidden_size=task.hidden_size,
        n_head=task.num_heads,
        dropout=task.dropout_rate,
        loss=MQLoss(quantiles=task.levels),
        max_steps=FOREVER * task.steps,
        val_check_steps=FOREVER * task.steps,
        learning_rate=task.learning_rate,
        batch_size=1,
        windows_batch_size=task.batch_size,
        scaler_type="identity",
        **settings,
    )
    model.fit(data)


def train_gluonts(task: Task, pace: Pace) -> None:
    """Known inputs go in as its time features; it scales each window's target itself."""
    import lightning.pytorch as lightning
    import pandas as pd
    from gluonts.torch.model.tft import TemporalFusionTransformerEstimator
    from gluonts.transform import ExpectedNumInstanceSampler

    settings = trainer_settings(task, pace, lightning)
    estimator = TemporalFusionTransformerEstimator(
        freq="D",
        prediction_length=task.prediction_length,
        context_length=task.encoder_length,
        quantiles=task.levels,
        num_heads=task.num_heads,
        hidden_dim=task.hidden_size,
        variable_dim=task.hidden_size,
        past_dynamic_dims=[1] * (len(task.observed) - 1),
        time_features=[lambda _, values=values: values for values in task.known],
        lr=task.learning_rate,
        weight_decay=0.0,
        dropout_rate=task.dropout_rate,
        batch_size=task.batch_size,
        num_batches_per_epoch=task.steps,
        train_sampler=ExpectedNumInstanceSampler(
            num_instances=task.num_windows, min_past=task.encoder_length, min_future=task.prediction_length
        ),
    )
    entry = {"start": pd.Period("2000-01-01", "D"), "target": task.observed[0]}
    entry["past_feat_dynamic_real"] = task.observed[1:]
    data = list(estimator.create_transformation().apply([entry], is_train=True))
    module = estimator.create_lightning_module()
    loader = estimator.create_training_data_loader(data, module, shuffle_buffer_length=task.num_windows)
    lightning.Trainer(**settings).fit(module, loader)


LIBRARIES = {
    "tftjax": train_tftjax,
    "pytorch-forecasting": train_pytorch_forecasting,
    "darts": train_darts,
    "neuralforecast": train_neuralforecast,
    "gluonts": train_gluonts,
}

STOPS_EARLY = "pytorch-forecasting"  # the one that is also trained to early stopping


def is_installed(library: str) -> bool:
    """Whether a library is installed, and torch with it."""
    try:
        for package in (library, *([] if library == "tftjax" else ["torch"])):
            metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def main() -> None:
    """Trains."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("task", type=Path)
    parser.add_argument("--runs", type=int, default=0, help=f"runs to early stopping, by {STOPS_EARLY}")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with np.load(arguments.task) as stored:
        task = Task(**{name: v.item() if not v.ndim else v for name, v in stored.items()})
    train = LIBRARIES[arguments.library]
    if not arguments.runs:
        train(task, Pace(answers))
    assert not arguments.runs or arguments.library == STOPS_EARLY
    for _ in range(arguments.runs):
        train(task, Pace(answers, arguments.threads))


if __name__ == "__main__":
    main()
