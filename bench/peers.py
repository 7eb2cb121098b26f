"""Speed of one training task here and in other libraries: `python bench/peers.py`.

Needs the extra `bench`: `pip install -e '.[bench]'`; a library that is missing is skipped. First an epoch
of a TFT on the embedded data, one library after another, round after round: the same windows, batch, size,
quantiles and optimizer, each library in a process of its own that waits while others run, and in its
fastest setting. Then nine configs to early stopping: one sweep, from the start of the process to its end,
evaluation and tables included, with an empty compilation cache, before and after nine runs of another
library in one process, which train and validate only. Prints tables on standard
error and one line of JSON on standard output.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np
from peers_train import LIBRARIES, STOPS_EARLY, Task, is_installed

from tftjax.storage.directories import SweepDirectory

ROOT = Path(__file__).resolve().parent.parent
TRAIN = Path(__file__).with_name("peers_train.py")
TFTJAX = "tftjax"
NINE = ("control", "mean_01", "mean_02", "std_01", "std_02", "balanced_005", "balanced_01")
NINE += ("emphasize_mean", "emphasize_std")


def log(text: str) -> None:
    """Prints on standard error."""
    print(text, file=sys.stderr, flush=True)


def make_task(config_path: str) -> Task:
    """The train rows of a config's data as its model sees them, and its sizes."""
    from tftjax.config.loading import load
    from tftjax.data.loading import load_panel
    from tftjax.data.prepared import prepare

    config = load(config_path)
    data = prepare(load_panel(config.data), config)
    splits = data.blocks[0].splits
    rows, later = splits.train.stop, slice(splits.val.start - config.model.encoder_length, splits.val.stop)
    task = Task(
        observed=data.series.observed[:, :rows],
        known=data.series.known_categorical[:, :rows],
        later_observed=data.series.observed[:, later],
        later_known=data.series.known_categorical[:, later],
        quantiles=np.array(config.model.quantiles),
        config=str(Path(config_path).resolve()),
        **{name: getattr(config.model, name) for name in ("encoder_length", "prediction_length")},
        **{name: getattr(config.model, name) for name in ("hidden_size", "num_heads", "dropout_rate")},
        **{name: getattr(config.train, name) for name in ("batch_size", "learning_rate")},
        **{name: getattr(config.train, name) for name in ("max_grad_norm", "patience")},
    )
    assert task.num_windows == len(data.starts["train"])
    return task


class Worker:
    """A process that trains in one library, an epoch when told to."""

    def __init__(self, library: str, task: Path):
        command = [sys.executable, str(TRAIN), library, str(task)]
        self.library = library
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log}
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
        self.parameters = self._answer()["parameters"]
        # Threads of torch; tftjax has a device a core, each with a thread, whatever the number.
        self.threads = (os.cpu_count() or 1) if library == TFTJAX else 1

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise SystemExit(f"{self.library} failed:\n{self.log.read()[-3000:]}")
        return json.loads(line)

    def epoch(self) -> float:
        """Trains an epoch; returns its seconds."""
        print(self.threads, file=self.process.stdin, flush=True)
        return self._answer()["seconds"]

    def warm_up(self) -> None:
        """Trains the first epoch, which compiles or allocates, and finds the faster number of threads."""
        cores = os.cpu_count() or 1
        self.epoch()
        if self.library != TFTJAX and cores > 1:
            tried = {}
            for self.threads in (1, cores):
                tried[self.threads] = self.epoch()
            self.threads = min(tried, key=tried.get)
        log(f"{self.library} is ready, with {self.threads} thread(s)")

    def stop(self) -> None:
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()


def epochs_by_turns(libraries: list[str], task: Path, rounds: int) -> dict[str, dict]:
    """Times epochs in each library by turns; returns version, parameters, threads and seconds by library."""
    workers = []
    for library in libraries:
        workers.append(Worker(library, task))
        workers[-1].warm_up()
    seconds: dict[str, list[float]] = {library: [] for library in libraries}
    for number in range(rounds):
        first = number % len(workers)  # none always follows the same one
        for worker in workers[first:] + workers[:first]:
            seconds[worker.library].append(worker.epoch())
    for worker in workers:
        worker.stop()
    return {
        worker.library: {
            "version": metadata.version(worker.library),
            "parameters": worker.parameters,
            "threads": worker.threads,
            "seconds": seconds[worker.library],
        }
        for worker in workers
    }


def print_epochs(results: dict[str, dict], windows: int) -> None:
    """Prints a table of speeds, and their ratios to this project's, round by round."""
    log(f"\nAn epoch of {windows:,} windows: median (least, greatest) of the rounds")
    log(f"{'':28}{'parameters':>11}{'threads':>9}{'windows/s':>30}{'tftjax is faster by':>28}")
    for library, row in results.items():
        rates = spread([windows / seconds for seconds in row["seconds"]], ",.0f")
        pairs = zip(row["seconds"], results[TFTJAX]["seconds"], strict=True)
        ratios = spread([seconds / reference for seconds, reference in pairs], ".2f")
        name = f"{library} {row['version']}"
        log(f"{name:28}{row['parameters']:11,}{row['threads']:9}{rates:>30}{ratios:>28}")


def spread(values: list[float], spec: str) -> str:
    """Median (least, greatest)."""
    return f"{statistics.median(values):{spec}} ({min(values):{spec}}, {max(values):{spec}})"


def nine_as_a_sweep() -> tuple[float, int]:
    """Seconds of the whole process, and epochs of all members together."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tftjax.sweep", *(f"configs/{name}.json" for name in NINE)]
        command += ["--runs", folder, "--quiet"]
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
        started = time.perf_counter()
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        seconds = time.perf_counter() - started
        runs = SweepDirectory(Path(folder) / "sweep").runs()
        return seconds, sum(len(run.metrics.read_text().splitlines()) for run in runs)


def nine_as_runs(library: str, task: Path, threads: int) -> tuple[float, int]:
    """The seconds and epochs of `nine_as_a_sweep` for nine runs one after another in one process."""
    command = [sys.executable, str(TRAIN), library, str(task), "--runs", str(len(NINE))]
    command += ["--threads", str(threads)]
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, stderr=log, text=True)
    seconds = time.perf_counter() - started
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    # A run tells its parameters where it begins, and the seconds of an epoch where the next one begins.
    assert sum("parameters" in answer for answer in answers) == len(NINE)
    return seconds, len(answers)


def compare_nine(library: str, task: Path, threads: int) -> dict:
    """Measures the nine-config job both ways and prints it."""
    sweeps = [nine_as_a_sweep()]
    runs = nine_as_runs(library, task, threads)
    sweeps.append(nine_as_a_sweep())
    log("\nNine configs to early stopping, whole processes, no compilation cached")
    for name, (seconds, epochs) in (("one sweep", sweeps[0]), ("one sweep", sweeps[1]), (library, runs)):
        log(f"{name:28}{seconds:9.1f} s, {epochs} epochs of a member")
    ratios = [runs[0] / seconds for seconds, _ in sweeps]
    log(f"nine runs take {min(ratios):.1f} to {max(ratios):.1f} times as long")
    return {"sweeps": sweeps, "library": library, "runs": runs}


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/control.json", help="the task; no penalty is trained")
    parser.add_argument("--libraries", nargs="+", choices=list(LIBRARIES)[1:], default=list(LIBRARIES)[1:])
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each library; default: 7")
    parser.add_argument("--nine", choices=[STOPS_EARLY, "none"], default=STOPS_EARLY, help="trains the nine")
    arguments = parser.parse_args()
    libraries = [TFTJAX]
    for library in arguments.libraries:
        if is_installed(library):
            libraries.append(library)
        else:
            log(f"{library} is not installed: left out. pip install -e '.[bench]' installs it.")
    task = make_task(arguments.config)
    log(f"{platform.platform()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.npz"
        np.savez(path, **task._asdict())
        results = epochs_by_turns(libraries, path, arguments.rounds)
        print_epochs(results, task.steps * task.batch_size)
        nine = None
        if arguments.nine in libraries:
            nine = compare_nine(arguments.nine, path, results[arguments.nine]["threads"])
    print(json.dumps({"windows": task.steps * task.batch_size, "libraries": results, "nine": nine}))


if __name__ == "__main__":
    main()
