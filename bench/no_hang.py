"""Repeated sweeps of 72 members, and how many of them end: `python bench/no_hang.py`.

Each is the command in a process of its own: nine configs by eight seeds on two years of the embedded data,
for a few epochs. A sweep that has not ended in time is killed and counted as hung.
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers import NINE, ROOT

from tftjax.storage.directories import SweepDirectory

SEEDS = 8
SETTINGS = ("data.start=2015-01-01", "data.end=2016-12-31", "train.patience=100")


def sweep(epochs: int, timeout: float, folder: Path) -> str | None:
    """Runs one sweep; returns None if it ended well and every member was summarised, else the problem."""
    command = [sys.executable, "-m", "tftjax.sweep", *(f"configs/{name}.json" for name in NINE)]
    command += ["--seeds", str(SEEDS), "--runs", str(folder), "--quiet"]
    for setting in (*SETTINGS, f"train.max_epochs={epochs}"):
        command += ["--set", setting]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"did not end in {timeout:.0f} s"
        log.seek(0)
        if code:
            return f"ended with code {code}: {log.read()[-2000:]}"
    rows = SweepDirectory(folder / "sweep").results.read_text().splitlines()[1:]
    return None if len(rows) == len(NINE) * SEEDS else f"summarised {len(rows)} members"


def main() -> int:
    """Runs all; the exit code is 0 if every sweep ended well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one sweep; default: 300")
    arguments = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}", flush=True)
    completed = 0
    for number in range(1, arguments.times + 1):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            problem = sweep(arguments.epochs, arguments.timeout, Path(folder))
            seconds = time.perf_counter() - started
        completed += problem is None
        print(f"{number}: {problem or 'completed'}, {seconds:.0f} s", flush=True)
    print(f"{completed} of {arguments.times} sweeps of {len(NINE) * SEEDS} members completed")
    return 0 if completed == arguments.times else 1


if __name__ == "__main__":
    sys.exit(main())
