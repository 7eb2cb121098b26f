"""Speed and memory of a sweep by its number of members: `python bench/sweep_speed.py`.

Every count is trained in a process of its own, first without a compilation cache, then from it. Prints a
table on standard error and one line of JSON on standard output. The compiled program is measured with its
transfers, but not the writing of files.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COUNTS = (1, 2, 4, 9, 18, 36, 72)


def measure(config_path: str, num_members: int, rounds: int, cache: str) -> dict[str, float]:
    """Trains members in this process, and measures the keys of the result."""
    from tftjax import runtime

    runtime.configure()
    import jax

    jax.config.update("jax_compilation_cache_dir", cache)
    from tftjax.config.hyperparameters import hyperparameters
    from tftjax.data.loading import load_panel
    from tftjax.data.prepared import prepare
    from tftjax.sweep.plan import make_plan
    from tftjax.train.engine import MembersEngine, Training
    from tftjax.train.step import init_state

    members = make_plan([config_path], num_seeds=num_members)
    data = prepare(load_panel(members[0].config.data), members[0].config)
    engine = MembersEngine([Training(m.name, m.config, data, Path()) for m in members])
    started = time.perf_counter()
    engine.prepare(num_members)
    compile_seconds = time.perf_counter() - started
    numbers = [hyperparameters(member.config) for member in members]
    states = [
        init_state(engine.program, values, member.config.train.seed)
        for values, member in zip(numbers, members, strict=True)
    ]
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        trained = engine.epoch(states, numbers, range(num_members))
        seconds.append(time.perf_counter() - started)
        states = [state for state, _ in trained]
    batch_size = members[0].config.train.batch_size
    windows = len(data.starts["train"]) // batch_size * batch_size
    median = statistics.median(seconds[1:])  # the first round touches memory for the first time
    return {
        "members": num_members,
        "windows_per_s": num_members * windows / median,
        "fastest_windows_per_s": num_members * windows / min(seconds[1:]),
        "seconds_per_member_epoch": median / num_members,
        "compile_s": compile_seconds,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_process_of_its_own(arguments: argparse.Namespace, num_members: int, cache: str) -> dict[str, float]:
    """Runs `measure` in a new process."""
    command = [sys.executable, __file__, "--config", arguments.config, "--rounds", str(arguments.rounds)]
    command += ["--only", str(num_members), "--cache", cache]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    """Measures every count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/control.json")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--rounds", type=int, default=3, help="epochs measured, after one that is not")
    parser.add_argument("--only", type=int, help="measure this count here, and print JSON")
    parser.add_argument("--cache", help="folder of the compilation cache, with --only")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments.config, arguments.only, arguments.rounds, arguments.cache)))
        return
    print(f"{platform.platform()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}", file=sys.stderr)
    columns = "members  windows/s  fastest  s/member-epoch  compile cold  compile warm  peak MB"
    print(columns, file=sys.stderr)
    rows = []
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as cache:
            row = in_process_of_its_own(arguments, count, cache)
            again = in_process_of_its_own(argparse.Namespace(**vars(arguments) | {"rounds": 1}), count, cache)
        row["compile_cached_s"] = again["compile_s"]
        rows.append({name: round(value, 3) for name, value in row.items()})
        print(
            f"{count:7}{row['windows_per_s']:11,.0f}{row['fastest_windows_per_s']:9,.0f}"
            f"{row['seconds_per_member_epoch']:16.3f}{row['compile_s']:14.1f}{row['compile_cached_s']:14.1f}"
            f"{row['peak_rss_mb']:9,.0f}",
            file=sys.stderr,
            flush=True,
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
