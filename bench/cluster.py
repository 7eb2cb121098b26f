"""Sweeps on a local Ray cluster of two actors, beside local ones: `python bench/cluster.py`.

Three questions, each answered in processes of their own:
  kills     18 members, actors killed by SIGKILL while they compile, train and return, until --kills are made:
            every sweep must end, with every member, in the bits of a local sweep;
  overhead  seconds of training and writing, on the cluster and in one process, in turn; the first epoch,
            which has the compilation, is left out;
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


def train(place: str, num_members: int, epochs: int, years: str) -> None:
    """Trains members by the loop, with this process as the driver, and prints JSON: see `measured`."""
    from tftjax import runtime
    from tftjax.data.loading import load_panel
    from tftjax.data.prepared import prepare
    from tftjax.sweep.plan import make_plan
    from tftjax.train import Group, Training, engine_on, train_members

    start, end = years.split("-")
    settings = [f"data.start={start}-01-01", f"data.end={end}-12-31", f"train.max_epochs={epochs}"]
    members = make_plan(
        ["configs/balanced_01.json"], overrides=[*settings, "train.patience=100"], num_seeds=num_members
    )
    on_cluster = {"actors": 2} if place == "ray" else {}
    with (
        engine_on(place if place == "ray" else None, **on_cluster) as engine_type,
        tempfile.TemporaryDirectory() as folder,
    ):
        runtime.configure()
        data = prepare(load_panel(members[0].config.data), members[0].config)
        trainings = [Training(m.name, m.config, data, Path(folder) / m.name) for m in members]
        for training in trainings:
            training.directory.mkdir()
        ended, seconds, used = {}, [], []

        def note(done):
            seconds.append(done.seconds)
            used.append(core_seconds())

        group = Group(trainings, "", Path(folder) / "checkpoints")
        train_members(group, engine_type, ended, note)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"ended": len(ended), "seconds": seconds, "cores": used[-1] - used[0], "peak": peak}))


def core_seconds() -> float:
    """Seconds of cores that this process and those that it started, Ray's own too, have used so far."""
    own = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (own, *own.children(recursive=True)))


def measured(place: str, num_members: int, epochs: int, years: str) -> dict:
    """Runs `train` in a process.

    Returns:
      "ended", the number of members; "seconds" of each epoch with its writing; "cores", the seconds of cores
      of all epochs but the first; "peak" of the driver's memory in MB.
    """
    words = [sys.executable, __file__, "--train", place, str(num_members), str(epochs), years]
    return json.loads(subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def overhead(repeats: int, epochs: int) -> None:
    """Prints what training takes on Ray and in one process, in turn, and the ratios.

    Where others use the machine, seconds of the clock say how the system divides it among processes; seconds
    of cores say what is done.
    """
    ratios = {"clock": [], "cores": []}
    for repeat in range(repeats):
        took = {}
        for place in ("local", "ray") if repeat % 2 else ("ray", "local"):
            found = measured(place, MEMBERS, epochs, "2012-2018")
            took[place] = {"clock": sum(found["seconds"][1:]), "cores": found["cores"]}
        for kind, values in ratios.items():
            values.append(took["ray"][kind] / took["local"][kind])
        print(took, flush=True)
    print(f"{MEMBERS} members, epochs 2 to {epochs}, {repeats} pairs: ray over local")
    for kind, values in ratios.items():
        print(
            f"  {kind}: median {statistics.median(values):.3f}, {min(values):.3f} to {max(values):.3f}",
            flush=True,
        )


def main() -> int:
    """Measures all; the exit code is 0 if no member and no bit was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--members", type=int, default=500)
    parser.add_argument("--only", choices=("kills", "overhead", "members"))
    parser.add_argument("--train", nargs=4, help="place, members, epochs, years: trains here and prints JSON")
    arguments = parser.parse_args()
    if arguments.train:
        place, members, epochs, years = arguments.train
        train(place, int(members), int(epochs), years)
        return 0
    print(f"{platform.platform()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}", flush=True)
    good = True
    if arguments.only in (None, "overhead"):
        overhead(arguments.repeats, arguments.epochs)
    if arguments.only in (None, "members"):
        found = measured("ray", arguments.members, 2, "2015-2016")
        seconds = ", ".join(f"{value:.0f}" for value in found["seconds"])
        print(
            f"{found['ended']} members, two epochs of {seconds} s: driver's peak {found['peak']:.0f} MB",
            flush=True,
        )
    if arguments.only in (None, "kills"):
        with tempfile.TemporaryDirectory() as folder:
            good = kills(arguments.kills, arguments.epochs, Path(folder))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
