"""Sweeps on a real Ray cluster of two actors, all tests on the same one: bits, deaths, a full disk, a kill.

The driver's rules are in tests/train/test_cluster.py, on a stand-in.
"""

import contextlib
import json
import secrets
import signal
import subprocess
import sys
import time

import psutil
import pytest
from tiny import ROOT, assert_same_run, make_rows, write_config

pytestmark = pytest.mark.slow

EPOCHS = 10
SEEDS = 3
# Starts a cluster as `--on ray` does.
HEAD = """
import sys
from tftjax.train import cluster
ray = cluster._import_ray("ray")
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A config that no rule stops before its last epoch."""
    train = {"max_epochs": EPOCHS, "patience": EPOCHS}
    return write_config(tmp_path_factory.mktemp("config"), make_rows(), train=train)


@pytest.fixture(scope="module")
def swept(config, commands, tmp_path_factory):
    """The sweep in one process."""
    folder = tmp_path_factory.mktemp("swept")
    commands.run("sweep", config, "--seeds", SEEDS, "--runs", folder)
    return folder / "tiny"


@pytest.fixture(scope="module")
def joined(commands):
    """A cluster in processes of its own; commands join it by `--on auto`."""
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    own["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    before = commands.environment
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    words = [sys.executable, "-c", HEAD]
    with subprocess.Popen(words, cwd=ROOT, env=before | own, **pipes) as head:
        commands.environment = before | own | {"RAY_ADDRESS": head.stdout.readline().strip()}
        yield psutil.Process(head.pid)
        commands.environment = before
        head.stdin.close()
        head.wait(60)


def actors(head):
    """What each actor of the cluster does, by its process."""
    titles = {}
    for child in head.children(recursive=True):
        with contextlib.suppress(psutil.Error, IndexError):
            titles[child] = child.cmdline()[0]
    return {
        child: title.partition(".")[2] for child, title in titles.items() if title.startswith("ray::Actor")
    }


def assert_same_sweep(folder, other):
    names = sorted(path.name for path in (other / "members").iterdir())
    assert sorted(path.name for path in (folder / "members").iterdir()) == names
    for name in names:
        assert_same_run(folder / "members" / name, other / "members" / name)
    for name in ("results.csv", "summary.csv", "summary.md"):
        assert (folder / name).read_bytes() == (other / name).read_bytes()


def started(commands, config, folder, *flags):
    words = [config, "--seeds", SEEDS, "--runs", folder, "--on", "auto", "--actors", 2, *flags]
    return commands.start("sweep", *words)


def kill_in(task, head, process, killed):
    """Kills an actor at a task, unless it has been before, and adds it to those."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        for actor, doing in actors(head).items():
            if doing == task and actor not in killed:
                actor.kill()
                killed.append(actor)
                return
        time.sleep(0.002)
    pytest.fail(f"no actor came to {task}: {process.communicate()[1]}")


def test_actors_killed_and_replaced_change_no_bit(joined, swept, config, commands, tmp_path):
    process, killed = started(commands, config, tmp_path), []
    for task in ("compile", "train", "train"):
        kill_in(task, joined, process, killed)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert err.count("is lost") == err.count("replaced") == 3
    assert "go on from their last epoch" in err
    assert f"{SEEDS} members in 1 program(s)" in out
    assert_same_sweep(tmp_path / "tiny", swept)


def lines(folder):
    path = folder / "tiny" / "members" / "tiny-s42" / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def stopped(sent, commands, config, folder):
    """Sends a signal to a sweep after three epochs; returns how it ended, and what it said."""
    process = started(commands, config, folder)
    while lines(folder) < 3:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, err


def test_a_driver_that_ends_goes_on(joined, swept, config, commands, tmp_path):
    assert stopped(signal.SIGKILL, commands, config, tmp_path)[0] == -signal.SIGKILL
    code, err = stopped(signal.SIGINT, commands, config, tmp_path / "other")
    assert code == 130, err
    assert lines(tmp_path / "other") >= 3
    process = started(commands, config, tmp_path, "--resume")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "going on after epoch" in err
    assert_same_sweep(tmp_path / "tiny", swept)


def run_after(code, commands, *arguments):
    """Runs the sweep in a process, after some Python code; returns the exit code and what it said."""
    words = [
        sys.executable,
        "-c",
        f"{code}\nfrom tftjax.sweep.__main__ import main\nsys.exit(main(sys.argv[1:]))",
    ]
    done = subprocess.run(
        [*words, *map(str, arguments)],
        cwd=ROOT,
        env=commands.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_a_full_disk_leaves_what_was_written_whole(joined, swept, config, commands, tmp_path):
    """A limit on the size of files stands for the disk: a checkpoint of all members does not fit."""
    limit = "import resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"
    words = [config, "--seeds", SEEDS, "--runs", tmp_path, "--on", "auto", "--actors", 2]
    code, err = run_after(limit, commands, *words)
    assert code == 2, err
    assert lines(tmp_path) == 1
    assert "cannot write the checkpoint of epoch 1" in err
    assert "Free space" in err
    process = started(commands, config, tmp_path, "--resume")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert_same_sweep(tmp_path / "tiny", swept)


def test_a_gpu_that_nobody_has(joined, config, commands, tmp_path):
    begun = time.monotonic()
    _, err = commands.run("sweep", config, "--runs", tmp_path, "--on", "auto", "--actor-gpus", 1, code=2)
    assert "--actor-gpus 1: found no GPUs on the node that has the most" in err
    assert time.monotonic() - begun < 30
    assert not (tmp_path / "tiny").exists()


def test_a_cluster_with_other_versions(joined, config, commands, tmp_path):
    other = (
        "import sys; from tftjax.train import cluster; own = cluster.versions()\n"
        "cluster.versions = lambda: own | {'jax': '0.0.1'}"
    )
    code, err = run_after(other, commands, config, "--runs", tmp_path, "--on", "auto")
    assert code == 2, err
    assert "error: the cluster has other versions than this process" in err
    assert ", expected jax 0.0.1" in err
    assert not (tmp_path / "tiny").exists()


def test_a_walk_forward_on_a_cluster(joined, commands, tmp_path):
    config = write_config(tmp_path, make_rows(1100), train={"max_epochs": 2})
    words = [config, "--first-test", 2003, "--last-test", 2004, "--train-years", 1]
    commands.run("walkforward", *words, "--runs", tmp_path / "local")
    commands.run("walkforward", *words, "--runs", tmp_path / "ray", "--on", "auto", "--actors", 2)
    local, ray = (tmp_path / place / "tiny-walk" for place in ("local", "ray"))
    for path in (local / "members").iterdir():
        assert_same_run(ray / "members" / path.name, path)
    assert (ray / "pooled.csv").read_bytes() == (local / "pooled.csv").read_bytes()


def test_a_cluster_of_this_machine_alone(swept, config, commands, tmp_path):
    """Its ports are reachable from this machine only, and it ends with the command."""
    process = commands.start("sweep", config, "--seeds", SEEDS, "--runs", tmp_path, "--on", "ray")
    while lines(tmp_path) < 1:
        assert process.poll() is None
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    addresses = set()
    for child in [psutil.Process(process.pid), *children]:
        with contextlib.suppress(psutil.Error):
            listening = [at for at in child.net_connections() if at.status == psutil.CONN_LISTEN]
            addresses |= {at.laddr.ip for at in listening}
    assert addresses
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]
    sweep = json.loads((tmp_path / "tiny" / "ended.json").read_text())
    assert len(sweep) == SEEDS
    if psutil.cpu_count() > 1:
        assert_same_sweep(tmp_path / "tiny", swept)


def test_an_address_that_does_not_answer(config, commands, tmp_path):
    begun = time.monotonic()
    for place in ("ray://127.0.0.1:9", "ray://host.invalid:10001"):
        _, err = commands.run("sweep", config, "--runs", tmp_path, "--on", place, code=2)
        assert f"error: --on {place}: no cluster to use (" in err
        assert "ray start --head" in err
    assert time.monotonic() - begun < 60
    assert not (tmp_path / "tiny").exists()
