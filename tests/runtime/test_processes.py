"""A map over processes: its order, its errors, its processes, and that none of them outlives its parent."""

import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from tiny import make_rows

from tftjax.evaluate.baselines import BASELINES, Task, Unavailable
from tftjax.runtime import processes

pytestmark = pytest.mark.slow

# Not guarded, as a user's script need not be.
SCRIPT = """
import sys, time
print("begins", flush=True)
from tftjax.runtime import processes
with processes.divided(9) as apply:
    print(*apply(eval, ["__import__('os').getpid()"] * 9), flush=True)
    list(apply(time.sleep, [float(sys.argv[1])] * 3))
"""


def make_task(returns):
    rows = make_rows()
    return Task(returns, {}, range(200), np.arange(250, 260)[:, None], (0.1, 0.9), rows.index, None)


def runs(number):
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_few_items_stay_in_this_process(monkeypatch):
    with processes.divided(8) as apply:
        assert apply is map
    monkeypatch.setattr(processes, "MOST_IN_THIS_PROCESS", 2)
    with processes.divided(3) as apply:
        assert list(apply(math.factorial, [3, 0, 4])) == [6, 1, 24]
        assert os.getpid() not in apply(eval, ["__import__('os').getpid()"] * 3)


def test_baselines_are_the_same_in_another_process_which_starts_no_jax(monkeypatch):
    monkeypatch.setattr(processes, "MOST_IN_THIS_PROCESS", 1)
    returns = make_rows()["SP500_Returns"].to_numpy()
    tasks = [make_task(returns), make_task(returns[::-1].copy())]
    with processes.divided(2) as apply:
        found = list(apply(BASELINES["log_scale"], tasks))
        code = "__import__('tftjax.evaluate.baselines') and 'jax' in __import__('sys').modules"
        assert list(apply(eval, [code])) == [False]
        with pytest.raises(Unavailable, match="did not converge"):
            list(apply(BASELINES["garch"], [make_task(np.zeros(len(returns)))]))
    for ours, task in zip(found, tasks, strict=True):
        np.testing.assert_array_equal(ours, BASELINES["log_scale"](task))


@pytest.mark.parametrize("num_calls", [3, 4])
def test_calls_beside_this_process(num_calls, monkeypatch, tmp_path):
    """In order, each followed by what comes after it; few are made here."""
    monkeypatch.setattr("tftjax.runtime.available_cores", lambda: 2)
    ended = []
    with processes.beside(num_calls) as call:
        for number in range(num_calls):
            path = f"__import__('pathlib').Path({str(tmp_path / str(number))!r})"
            code = f"{path}.write_text(str(__import__('os').getpid()))"
            call(eval, code, lambda number=number: ended.append(number))
    assert ended == list(range(num_calls))
    written = {(tmp_path / str(number)).read_text() for number in range(num_calls)}
    assert len(written) == 1
    assert (written == {str(os.getpid())}) == (num_calls == 3)


def test_an_error_beside_this_process_is_raised_and_what_follows_is_not_done(monkeypatch):
    monkeypatch.setattr("tftjax.runtime.available_cores", lambda: 2)
    ended = []

    def several():
        with processes.beside(4) as call:
            call(eval, "1 + 1", lambda: ended.append(1))
            call(eval, "1 / 0", lambda: ended.append(2))

    with pytest.raises(ZeroDivisionError):
        several()
    assert ended == [1]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_its_parent_or_runs_its_script(tmp_path, end):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), "2" if end == signal.SIGINT else "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "begins\n"
        children = {int(number) for number in parent.stdout.readline().split()}
        assert children
        assert parent.pid not in children
        parent.send_signal(end)
        rest, _ = parent.communicate(timeout=60)
    assert parent.returncode == -end
    assert not rest
    deadline = time.monotonic() + 10
    while any(runs(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
