"""Speed and memory of one training run, by the command that users run: `python bench/train_speed.py`.

Prints one line of JSON on standard output and a table with spreads on standard error. Training is measured in
processes of its own: one run of one epoch without a compilation cache and three with one, for the time from
the start of the process to the end of the first epoch, and one longer run for the steady state. Inference is
measured in this process, on the parameters of the longer run.
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
from pathlib import Path

from tftjax.storage.directories import RunDirectory

ROOT = Path(__file__).resolve().parent.parent
INFERENCE_BATCH = 256


def first_epoch(
    config: str, run: RunDirectory, epochs: int, environment: dict[str, str]
) -> tuple[float, float]:
    """Trains in a process.

    Returns:
      Seconds from its start to the line of the first epoch in metrics.jsonl, and its peak memory in MB.
    """
    command = [sys.executable, "-m", "tftjax.train", config, "--quiet"]
    command += ["--runs", str(run.path.parent), "--name", run.path.name]
    command += ["--set", f"train.max_epochs={epochs}", "--set", f"train.patience={epochs}"]
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment, cwd=ROOT)
    while not (run.metrics.exists() and run.metrics.stat().st_size) and process.poll() is None:
        time.sleep(0.01)
    seconds = time.monotonic() - started
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit("the training process failed")
    return seconds, usage.ru_maxrss / 1024


def train_rates(
    config: str, run: RunDirectory, epochs: int, environment: dict[str, str]
) -> tuple[list[float], float]:
    """Windows per second of each epoch of a run but the first two, and its peak memory in MB."""
    _, peak = first_epoch(config, run, epochs, environment)
    lines = run.metrics.read_text().splitlines()
    return [json.loads(line)["windows_per_s"] for line in lines[2:]], peak


def inference(run_directory: Path, repeats: int) -> tuple[list[float], int]:
    """Windows per second of each of many batches, all on the device, and the number of parameters."""
    from tftjax import runtime

    runtime.configure()
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    from tftjax.data.prepared import cardinalities
    from tftjax.model.forecast import compile_forecast
    from tftjax.model.parameters import build_model
    from tftjax.storage import runs

    run = runs.open_run(run_directory)
    model = build_model(run.config, *cardinalities(run.data.panel, run.data.encoding))
    mesh = runtime.device_mesh(INFERENCE_BATCH)
    everywhere = NamedSharding(mesh, PartitionSpec())
    parameters, series = jax.device_put((run.parameters, run.data.series), everywhere)
    starts = run.data.starts["test"][:INFERENCE_BATCH]
    forecast = compile_forecast(model, mesh)
    rates = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(forecast(parameters, series, starts))
        rates.append(len(starts) / (time.perf_counter() - started))
    return rates[repeats // 10 :], sum(leaf.size for leaf in jax.tree.leaves(run.parameters))


def main() -> None:
    """Runs all measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/balanced_01.json")
    parser.add_argument("--epochs", type=int, default=30, help="epochs of the longer run, at least 5")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
        short = [RunDirectory(Path(folder) / name) for name in ("cold", "warm0", "warm1", "warm2")]
        cold, *warm = (first_epoch(arguments.config, run, 1, environment) for run in short)
        steady = RunDirectory(Path(folder) / "steady")
        train, peak = train_rates(arguments.config, steady, arguments.epochs, environment)
        infer, parameters = inference(steady.path, repeats=200)
    rates = {"train_windows_per_s": train, "inference_windows_per_s": infer}
    spread = {name: statistics.quantiles(values, n=4) for name, values in rates.items()}
    single = {
        "first_epoch_cold_s": cold[0],
        "first_epoch_warm_s": statistics.median(seconds for seconds, _ in warm),
        "parameters": parameters,
        "peak_rss_mb": peak,
        "peak_rss_compiling_mb": cold[1],
    }
    print(f"{platform.platform()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}", file=sys.stderr)
    for name, (low, middle, high) in spread.items():
        print(f"{name:26}{middle:12,.0f}   quartiles {low:,.0f} to {high:,.0f}", file=sys.stderr)
    for name, value in single.items():
        print(f"{name:26}{value:12,.1f}", file=sys.stderr)
    medians = {name: round(values[1], 1) for name, values in spread.items()}
    print(json.dumps(medians | {name: round(value, 2) for name, value in single.items()}))


if __name__ == "__main__":
    main()
