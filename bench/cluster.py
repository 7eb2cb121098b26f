"""Sweeps on a local Ray cluster of two actors, beside local ones: `python bench/cluster.py`.

Three questions, each answered by the command in processes of its own:
  kills     18 members, actors killed by SIGKILL while they compile, train and return, until --kills are made:
            every sweep must end, with every member, in the bits of a local sweep;
  overhead  seconds of training of `--on ray` and of a local sweep, in turn; the first epoch, which has the
            compilation, is left out;
  members   peak memory of the driver with 500 members handed out for two epochs.
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
from collections import Counter
from pathlib import Path

import psutil
from peers import ROOT

from tftjax.storage.directories import SweepDirectory

MEMBERS = 18
KILLS_A_SWEEP = 5
TIMEOUT = 900  # seconds, after which a sweep counts as hung
SETTINGS = ("data.start=2012-01-01", "train.patience=100")
TIMES = ("seconds", "windows_per_s")


def command(folder: Path, epochs: int, *flags: str) -> list[str]:
    """The sweep's command; its folder is `folder`/balanced_01."""
    words = [sys.executable, "-m", "tftjax.sweep", "configs/balanced_01.json", "--seeds", str(MEMBERS)]
    for setting in (*SETTINGS, f"train.max_epochs={epochs}"):
        words += ["--set", setting]
    return [*words, "--runs", str(folder), "--quiet", *flags]


def lines(folder: Path) -> dict[str, list[dict]]:
    """The lines of metrics.jsonl of every member, by name."""
    runs = SweepDirectory(folder / "balanced_01").runs()
    return {
        run.path.name: [json.loads(line) for line in run.metrics.read_text().splitlines()] for run in runs
    }


def bits(folder: Path) -> tuple[bytes, dict[str, list[dict]]]:
    """What two equal sweeps have in common, to the last bit: all results, and all metrics of all epochs."""
    kept = {
        name: [{key: value for key, value in line.items() if key not in TIMES} for line in epochs]
        for name, epochs in lines(folder).items()
    }
    return SweepDirectory(folder / "balanced_01").results.read_bytes(), kept


def training_seconds(folder: Path) -> float:
    """Seconds of all epochs but the first; a line's seconds are its member's share of the epoch."""
    return sum(line["seconds"] for epochs in lines(folder).values() for line in epochs[1:])


def actors(process: subprocess.Popen) -> dict[int, str]:
    """What each actor of a sweep does, by its process, as Ray titles it: start, compile, train or nothing."""
    doing = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            title = child.cmdline()[0]
        except (psutil.Error, IndexError):
            continue
        if title.startswith("ray::Actor"):
            doing[child.pid] = title.partition(".")[2]
    return doing


def kill_in(phase: str, process: subprocess.Popen) -> bool:
    """Kills an actor in a phase: compile, train, or return, just after it; False if the sweep has ended."""
    before: dict[int, str] = {}
    while process.poll() is None:
        try:
            now = actors(process)
        except psutil.Error:
            return False
        for pid, task in now.items():
            if task == phase or (phase == "return" and not task and before.get(pid) == "train"):
                if phase == "train":
                    time.sleep(0.05)
                psutil.Process(pid).kill()
                return True
        before = now
        time.sleep(0.0005)
    return False


def kills(number: int, epochs: int, folder: Path) -> bool:
    """Kills actors in sweeps until there were enough; returns whether every sweep was as the local one."""
    subprocess.run(command(folder / "local", epochs), cwd=ROOT, check=True)
    expected, made, sweeps, good = bits(folder / "local"), Counter(), 0, True
    phases = ("compile", "train", "return")
    while made.total() < number:
        sweeps += 1
        place = folder / f"ray-{sweeps}"
        started = time.perf_counter()
        with tempfile.TemporaryFile("w+") as log:
            words = command(place, epochs, "--on", "ray", "--actors", "2")
            process = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log)
            for _ in range(min(KILLS_A_SWEEP, number - made.total())):
                phase = phases[made.total() % len(phases)]
                made[phase] += kill_in(phase, process)
                time.sleep(1)
            try:
                code = process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                code = "none: hung"
            log.seek(0)
            told = log.read()
        same = code == 0 and bits(place) == expected
        good &= same
        print(
            f"sweep {sweeps}: exit code {code}, {told.count('is lost')} actors lost, "
            f"{len(lines(place))} members, {'the same bits' if same else 'OTHER BITS: ' + told[-2000:]}, "
            f"{time.perf_counter() - started:.0f} s",
            flush=True,
        )
    print(f"kills: {made.total()}, {dict(made)}, in {sweeps} sweeps", flush=True)
    return good


def overhead(repeats: int, epochs: int, folder: Path) -> None:
    """Prints the seconds of training on Ray and in one process, in turn, and their ratio."""
    ratios, walls = [], []
    for repeat in range(repeats):
        seconds, wall = {}, {}
        for name, flags in (("local", ()), ("ray", ("--on", "ray", "--actors", "2"))):
            place, started = folder / f"{name}-time-{repeat}", time.perf_counter()
            subprocess.run(command(place, epochs, *flags), cwd=ROOT, check=True)
            wall[name] = time.perf_counter() - started
            seconds[name] = training_seconds(place)
        ratios.append(seconds["ray"] / seconds["local"])
        walls.append(wall["ray"] - wall["local"])
        print(
            f"local {seconds['local']:.1f} s, ray {seconds['ray']:.1f} s, ratio {ratios[-1]:.3f}; "
            f"whole command {wall['local']:.0f} s, {wall['ray']:.0f} s",
            flush=True,
        )
    print(
        f"overhead of --on ray: {100 * (statistics.median(ratios) - 1):.1f} % (median of {repeats}, from "
        f"{100 * (min(ratios) - 1):.1f} to {100 * (max(ratios) - 1):.1f} %); the whole command takes "
        f"{statistics.median(walls):.0f} s longer",
        flush=True,
    )


def hand_out(num_members: int) -> None:
    """Trains members for two epochs, in this process as the driver, and prints its peak memory."""
    from tftjax import runtime
    from tftjax.data.loading import load_panel
    from tftjax.data.prepared import prepare
    from tftjax.sweep.plan import make_plan
    from tftjax.train import Group, Training, engine_on, train_members

    settings = ["data.start=2015-01-01", "data.end=2016-12-31", "train.max_epochs=2"]
    members = make_plan(["configs/balanced_01.json"], overrides=settings, num_seeds=num_members)
    with engine_on("ray", actors=2) as engine_type, tempfile.TemporaryDirectory() as folder:
        runtime.configure()
        data = prepare(load_panel(members[0].config.data), members[0].config)
        trainings = [Training(m.name, m.config, data, Path(folder) / m.name) for m in members]
        for training in trainings:
            training.directory.mkdir()
        ended, seconds = {}, []
        group = Group(trainings, "", Path(folder) / "checkpoints")
        train_members(group, engine_type, ended, lambda done: seconds.append(done.seconds))
    with open("/proc/self/status") as status:
        parts = [" ".join(line.split()) for line in status if line.startswith(("VmHWM", "Rss"))]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{num_members} members: peak memory of the driver {peak:.0f} MB ({', '.join(parts)}), "
        f"{len(ended)} ended, epochs of {', '.join(f'{value:.0f}' for value in seconds)} s"
    )


def main() -> int:
    """Measures all; the exit code is 0 if no member and no bit was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--members", type=int, default=500)
    parser.add_argument("--only", choices=("kills", "overhead", "members", "hand-out"))
    arguments = parser.parse_args()
    if arguments.only == "hand-out":
        hand_out(arguments.members)
        return 0
    print(f"{platform.platform()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}", flush=True)
    good = True
    with tempfile.TemporaryDirectory() as folder:
        if arguments.only in (None, "overhead"):
            overhead(arguments.repeats, arguments.epochs, Path(folder))
        if arguments.only in (None, "members"):
            words = [sys.executable, __file__, "--only", "hand-out", "--members", str(arguments.members)]
            subprocess.run(words, cwd=ROOT, check=True)
        if arguments.only in (None, "kills"):
            good = kills(arguments.kills, arguments.epochs, Path(folder))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
