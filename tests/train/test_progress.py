"""What a person sees: lines for pipes, a live table on a terminal, nothing on demand."""

import io
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.console import Console
from tiny import EPOCHS, ROOT

from tftjax.train import progress
from tftjax.train.progress import LiveProgress, NoProgress, PlainProgress


def record(epoch, **changes):
    values = {
        "epoch": epoch,
        "improved": epoch % 2 == 1,
        "loss": 0.0021,
        "quantile_loss": 0.002,
        "mean_penalty": 0.00006,
        "std_penalty": 0.00004,
        "marginal_penalty": 0.00002,
        "directional_penalty": 0.00001,
        "crossing_penalty": 0.0,
        "warnings": {},
        "val/loss": 0.00195,
        "val/sigma": 0.00123,
        "val/share_positive": 0.875,
        "windows_per_s": 12345.6,
    }
    return values | changes


def test_cells_are_in_the_units_of_their_headings():
    expected = (
        "3",
        "2.1000",
        "2.0000",
        "0.06000",
        "0.04000",
        "0.03000",
        "1.9500",
        "*",
        "12.3 bp",
        "88%",
        "12,346",
    )
    assert progress.epoch_cells(record(3)) == expected
    assert progress.epoch_cells(record(4))[7] == ""
    assert len(expected) == len(progress.COLUMNS)


def test_plain_lines(capsys, monkeypatch):
    clock = iter([100.0, 104.0, 106.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with PlainProgress("a", 10, 2) as display:
        display.update(record(3))
        display.update(record(4))
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        "epoch 3/10  loss 2.1000 = pinball 2.0000 + mean 0.06000 + std 0.04000 + others 0.03000  "
        "val 1.9500*  sigma 12.3 bp  "
        "positive 88%  12,346 windows/s  at most 28 s left"
    )
    # The last epoch took 2 s, six to go: the first one's compilation does not count.
    assert second.endswith("at most 12 s left")
    assert "1.9500  sigma" in second


SEEN = {"one_sign": "99.9% of the median forecasts are positive"}


def test_a_warning_is_said_when_it_begins(capsys):
    with PlainProgress("a", 10, 0) as display:
        for epoch, warnings in enumerate(({}, SEEN, SEEN | {"few": "[3] distinct"}, {}, SEEN), start=1):
            display.update(record(epoch, warnings=warnings))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert said == [
        "warning: epoch 2: 99.9% of the median forecasts are positive",
        "warning: epoch 3: [3] distinct",
        "warning: epoch 5: 99.9% of the median forecasts are positive",
    ]


def test_warnings_stay_above_the_live_table(monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=130, height=40)
    monkeypatch.setattr(progress, "Console", lambda: console)
    with LiveProgress("balanced", 20, 0) as display:
        display.update(record(1, warnings={"few": "[3] distinct"}))
        display.update(record(2, warnings={"few": "[3] distinct"}))
    assert screen.getvalue().count("warning: epoch 1: [3] distinct") == 1
    assert "epoch 2: [3]" not in screen.getvalue()


def test_live_table(monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=130, height=40)
    monkeypatch.setattr(progress, "Console", lambda: console)
    with LiveProgress("balanced", 20, 0) as display:
        assert "compiling" in render(display)
        for epoch in range(1, 15):
            display.update(record(epoch))
        shown = render(display)
    assert "balanced" in shown
    for column in progress.COLUMNS:
        assert column in shown
    assert "12.3 bp" in shown
    assert "88%" in shown
    assert "14/20" in shown
    assert "training" in shown
    rows = re.findall(r"│\s+(\d+) │", shown)
    assert rows == [str(n) for n in range(3, 15)]  # the last twelve
    assert "\x1b[" in screen.getvalue()  # redrawn in place


def render(display):
    console = Console(file=io.StringIO(), width=130, record=True)
    console.print(display._draw())
    return console.export_text()


def test_live_table_of_a_resumed_run_starts_where_it_stopped():
    assert "5/20" in render(LiveProgress("a", 20, 5))


def test_an_exception_passes_through_every_display():
    for display in (PlainProgress, LiveProgress, NoProgress):
        with pytest.raises(KeyboardInterrupt), display("a", 3, 0):
            raise KeyboardInterrupt


def test_nothing_is_printed_when_quiet(capsys):
    with NoProgress("a", 3, 0) as display:
        display.update(record(1))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_choice_of_the_display(monkeypatch):
    assert progress.choose(quiet=True) is NoProgress
    for terminal, display in ((True, LiveProgress), (False, PlainProgress)):
        monkeypatch.setattr(sys, "stdout", type("Out", (io.StringIO,), {"isatty": lambda _, t=terminal: t})())
        assert progress.choose(quiet=False) is display
    monkeypatch.undo()


@pytest.mark.slow
def test_on_a_real_terminal(trained, commands, tmp_path):
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "tftjax.train", str(trained.config), "--runs", str(tmp_path)]
    environment = commands.environment | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=follower, stderr=subprocess.PIPE, text=True
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # Linux: the other end is closed
            part = b""
        if not part:
            break
        shown += part
    os.close(leader)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err == ""
    text = shown.decode()
    assert "windows/s" in text
    assert f"{EPOCHS}/{EPOCHS}" in text
    assert "\x1b[" in text
    assert "test model" in text
    assert "epoch 1/" not in text
