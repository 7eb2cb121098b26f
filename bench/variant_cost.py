"""Cost of variants per epoch, beside a baseline: `python bench/variant_cost.py --variant KEY=VALUE ...`.

Every program trains in a process of its own on one device, and only one works at a time: each round is an
epoch (its validation included) of every program, in random order, and gives a ratio to the baseline's epoch
of the same round, so that a machine whose speed wanders does not matter. Several --variant make several
programs; `--variant` alone is the baseline once more, and shows the noise between equal programs:

    python bench/variant_cost.py --variant --variant model.quantile_head=monotone
    python bench/variant_cost.py --variant train.category_dropout=0.1 --variant model.min_encoder_length=5
    python bench/variant_cost.py --variant --variant model.dtype=bfloat16

Two ratios are given: of time, and of the CPU time of the process, which other processes disturb less; on a
GPU only the first one means anything. With --baseline-code DIR the baseline is the program of another
checkout, to see what a change of the code costs. Prints a table on standard error and one line of JSON on
standard output.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def work(config_path: str, overrides: list[str]) -> None:
    """Compiles a program, prints facts about it, and trains an epoch for every line of standard input."""
    from tftjax import runtime

    runtime.configure()
    import jax
    import numpy as np

    from tftjax.config.hyperparameters import hyperparameters
    from tftjax.config.loading import load
    from tftjax.data.loading import load_panel
    from tftjax.data.prepared import prepare
    from tftjax.train.step import compile_epoch, init_state, make_program, rebuilt, train_data

    jax.config.update("jax_enable_compilation_cache", False)
    config = load(config_path, overrides)
    data = prepare(load_panel(config.data), config)
    program = make_program(config, data, runtime.device_mesh(1))
    numbers = jax.tree.map(np.float32, hyperparameters(config))
    state = init_state(program, numbers, config.train.seed)
    started = time.perf_counter()
    epoch = compile_epoch(program, emitters=True).lower(state, numbers, train_data(data)).compile()
    facts = {
        "compile_s": time.perf_counter() - started,
        "hlo_lines": len(epoch.as_text().splitlines()),
        "parameters": program.layout.size,
        "windows": len(data.starts["train"]) // config.train.batch_size * config.train.batch_size,
    }
    print(json.dumps(facts), flush=True)
    arrays = jax.device_put(train_data(data))
    for _ in sys.stdin:
        started = time.perf_counter(), time.process_time()
        state, _ = rebuilt(jax.block_until_ready(epoch(state, numbers, arrays)), state)
        spent = time.perf_counter() - started[0], time.process_time() - started[1]
        print(json.dumps(spent), flush=True)


class Worker:
    """A program in a process of its own."""

    def __init__(self, config: str, overrides: list[str], code: Path):
        # The checkout's own script: functions that this one calls may be missing in it.
        script = str(code / "bench" / Path(__file__).name)
        command = [sys.executable, script, "--config", config, "--work", *overrides]
        environment = os.environ | {"PYTHONPATH": str(code)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=environment, cwd=code, text=True, **pipes)
        self.facts = json.loads(self._line())

    def _line(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a program failed: {' '.join(self.process.args)}")
        return line

    def epoch(self) -> tuple[float, float]:
        """Seconds, and seconds of CPU time, of one epoch."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        seconds, cpu_seconds = json.loads(self._line())
        return seconds, cpu_seconds


def measure(workers: dict[str, Worker], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Times of each program's epochs by round, without the first one, which touches memory."""
    shuffle, times = random.Random(0), {name: [] for name in workers}
    for number in range(rounds + 1):
        for name in shuffle.sample(list(workers), len(workers)):
            spent = workers[name].epoch()
            if number:
                times[name].append(spent)
    return times


def main() -> None:
    """Compares the variants with the baseline."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/control.json", help="the baseline; default: control")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="for the baseline too")
    parser.add_argument(
        "--variant", nargs="*", action="append", default=[], metavar="KEY=VALUE", help="a program to compare"
    )
    parser.add_argument("--rounds", type=int, default=20, help="epochs of each program, at least 2")
    parser.add_argument("--baseline-code", type=Path, default=ROOT, metavar="DIR", help="another checkout")
    parser.add_argument("--work", nargs="*", metavar="KEY=VALUE", help="used by this script itself")
    arguments = parser.parse_args()
    config = str(Path(arguments.config).resolve())
    if arguments.work is not None:
        work(config, arguments.work)
        return
    programs = {"baseline": (arguments.set, arguments.baseline_code.resolve())}
    for number, changes in enumerate(arguments.variant, start=1):
        programs[f"{number}: {' '.join(changes) or 'the same'}"] = ([*arguments.set, *changes], ROOT)
    workers = {name: Worker(config, overrides, code) for name, (overrides, code) in programs.items()}
    try:
        times = measure(workers, arguments.rounds)
    finally:
        for worker in workers.values():
            worker.process.kill()
    print(f"{platform.platform()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}", file=sys.stderr)
    print("an epoch / the baseline's, median [quartiles]: time, CPU time", file=sys.stderr)
    rows = []
    for name, worker in workers.items():
        row, cells = {"program": name} | worker.facts, []
        for place, clock in enumerate(("time", "cpu_time")):
            pairs = zip(times[name], times["baseline"], strict=True)
            ratios = [spent[place] / baseline[place] for spent, baseline in pairs]
            low, middle, high = statistics.quantiles(ratios, n=4)
            row |= {clock: middle, f"{clock}_low": low, f"{clock}_high": high}
            cells.append(f"{middle:.3f} [{low:.3f}, {high:.3f}]")
        seconds = statistics.median(spent for spent, _ in times[name])
        row["windows_per_s"] = row["windows"] / seconds
        rows.append(row)
        print(
            f"{'  '.join(cells)}  {row['windows_per_s']:8,.0f} windows/s  {row['compile_s']:5.1f} s to"
            f" compile, {row['hlo_lines']:,} lines of HLO, {row['parameters']:,} parameters  {name}",
            file=sys.stderr,
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
