"""What a person sees: lines for pipes, a live table on a terminal, nothing on demand."""

import io
import os
import pty
import re
import subprocess
import sys
from contextlib import nullcontext
from functools import partial

import pytest
from rich.console import Console
from tiny import EPOCHS, ROOT, make_rows, write_config

from tftjax.config.loading import from_dict
from tftjax.storage.runs import Ended
from tftjax.train import progress
from tftjax.train.loop import Round
from tftjax.train.progress import RunView, SweepView, display, live, plain


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


def a_round(number, seconds=1.0, epochs_left=0, **changes):
    return Round({"a": record(number, **changes)}, seconds, 1, epochs_left)


def config(name="a", max_epochs=10, **loss):
    functions = {"penalties": {own: "0" * 64 for own in loss.get("own_weights", {})}}
    return from_dict(
        {"name": name, "train": {"max_epochs": max_epochs}, "loss": loss, "functions": functions}, "x"
    )


BOTH = {"mean_weight": 0.1, "std_weight": 0.1}
ALL = BOTH | {"marginal_weight": 1.0, "directional_weight": 1.0, "crossing_weight": 1.0}


def test_penalties_are_those_with_a_weight():
    assert progress.weighted_penalties(config()) == []
    assert progress.weighted_penalties(config(**BOTH)) == ["mean", "std"]
    assert progress.weighted_penalties(config(own_weights={"tail": 0.5, "off": 0.0})) == ["tail"]
    routed = {"model": {"attention": {"regime": {"by": "router", "balance_weight": 0.5}}}}
    assert progress.weighted_penalties(from_dict(routed, "x")) == ["balance"]


def test_cells_are_in_the_units_of_their_headings():
    view = RunView(config(**BOTH))
    view.table(a_round(3))
    (row,) = view.rows
    assert dict(zip(view.columns(), row, strict=True)) == {
        "epoch": "3",
        "loss": "2.1000",
        "pinball": "2.0000",
        "mean": "0.06000",
        "std": "0.04000",
        "validation": "1.9500*",
        "best": "1.9500",
        "windows/s": "12,346",
    }
    view.table(a_round(4, **{"val/loss": 0.00196}))
    assert view.rows[-1][-3:] == ("1.9600 ", "1.9500", "12,346")


def test_penalties_too_wide_for_columns_are_added_up():
    view = RunView(config(**ALL))
    view.table(a_round(3))
    cells = dict(zip(view.columns(), view.rows[0], strict=True))
    assert (cells["pinball"], cells["penalties"]) == ("2.0000", "0.13000")
    assert list(cells) == ["epoch", "loss", "pinball", "penalties", "validation", "best", "windows/s"]


def test_plain_lines(capsys):
    with plain(RunView(config(**BOTH))) as show:
        show(a_round(3, seconds=4.0, epochs_left=7))
        show(a_round(4, seconds=2.0, epochs_left=6))
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        "epoch 3/10  loss 2.1000 = pinball 2.0000 + mean 0.06000 + std 0.04000  val 1.9500*  "
        "sigma 12.3 bp  positive 88%  12,346 windows/s  at most 28 s left"
    )
    # The last epoch took 2 s, six to go: the first one's compilation does not count.
    assert second.endswith("at most 12 s left")
    assert "1.9500  sigma" in second


def test_a_line_without_penalties(capsys):
    with plain(RunView(config())) as show:
        show(a_round(3, seconds=300.0, epochs_left=70, loss=0.002))
    assert capsys.readouterr().out == (
        "epoch 3/10  loss 2.0000  val 1.9500*  sigma 12.3 bp  positive 88%  12,346 windows/s  "
        "at most 5 h 50 min left\n"
    )


@pytest.mark.parametrize("loss", [{}, BOTH, ALL, {"own_weights": {"a_penalty_with_a_long_name": 2.0}}])
def test_the_live_table_fits_80_columns(loss):
    view = RunView(config("balanced", 100_000, **loss))
    huge = {"loss": 0.9, "quantile_loss": 0.9, "val/loss": 0.9, "windows_per_s": 1_234_567.0}
    own = {f"{name}_penalty": 0.001 for name in loss.get("own_weights", ())}
    view.table(a_round(99_998, **huge, **own))
    lines = render(view.table(a_round(99_999, 36_000.0, 100_000, **huge, **own)), 80).splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = (line for line in lines if line.split()[:1] == ["99999"])
    assert row.split()[-3:] == ["900.0000*", "900.0000", "1,234,567"]
    assert "…" not in "".join(lines)
    (bar,) = (line for line in lines if "99999/100000" in line)
    assert "at most 1000000 h 0 min left" in bar
    heading = next(line for line in lines if "epoch" in line)
    assert heading.split() == view.columns()


SEEN = {"one_sign": "99.9% of the median forecasts are positive"}


def test_a_warning_is_said_when_it_begins(capsys):
    with plain(RunView(config())) as show:
        for epoch, warnings in enumerate(({}, SEEN, SEEN | {"few": "[3] distinct"}, {}, SEEN), start=1):
            show(a_round(epoch, warnings=warnings))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert said == [
        "warning: epoch 2: 99.9% of the median forecasts are positive",
        "warning: epoch 3: [3] distinct",
        "warning: epoch 5: 99.9% of the median forecasts are positive",
    ]


def test_warnings_stay_above_the_live_table(monkeypatch):
    screen = io.StringIO()
    terminal = {"file": screen, "force_terminal": True, "width": 80, "height": 40}
    monkeypatch.setattr(progress, "Console", lambda **how: Console(**terminal, **how))
    with live(RunView(config("balanced", 20, **BOTH))) as show:
        show(a_round(1, warnings={"few": "[3] distinct"}))
        show(a_round(2, warnings={"few": "[3] distinct"}))
    assert screen.getvalue().count("warning: epoch 1: [3] distinct") == 1
    assert "epoch 2: [3]" not in screen.getvalue()


def test_names_are_no_markup(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **how: Console(file=screen, width=80, **how))
    own = from_dict({"functions": {"penalties": {"[b]:car:": "0" * 64}}}, "test")
    with live(RunView(own)):
        pass
    assert "[b]:car:" in screen.getvalue()


def test_live_table(monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, height=40)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    view = RunView(config("balanced", 20, **BOTH))
    with live(view) as show:
        assert "compiling" in render(view.table(None))
        for epoch in range(1, 15):
            show(a_round(epoch))
        shown = render(view.table(None))
    assert "balanced" in shown
    for column in ("epoch", "loss", "pinball", "mean", "std", "validation", "best", "windows/s"):
        assert column in shown
    assert "14/20" in shown
    assert "training" in shown
    rows = re.findall(r"^ +(\d+)  ", shown, re.MULTILINE)
    assert rows == [str(n) for n in range(3, 15)]  # the last twelve
    assert "\x1b[" in screen.getvalue()  # redrawn in place


def render(table, width=80):
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(table)
    return console.export_text()


def test_live_table_of_a_resumed_run_starts_where_it_stopped():
    assert "5/20" in render(RunView(config(max_epochs=20), 5).table(None))


def test_an_exception_passes_through_every_display():
    for shown in (plain, live, partial(display, quiet=True)):
        with pytest.raises(KeyboardInterrupt), shown(RunView(config())):
            raise KeyboardInterrupt


def test_nothing_is_printed_when_quiet(capsys):
    with display(RunView(config()), quiet=True) as show:
        show(a_round(1))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_choice_of_the_display(monkeypatch):
    for name in ("live", "plain"):
        monkeypatch.setattr(progress, name, lambda _, name=name: nullcontext(name))
    for terminal, kind in ((True, "live"), (False, "plain")):
        monkeypatch.setattr(sys, "stdout", type("Out", (io.StringIO,), {"isatty": lambda _, t=terminal: t})())
        with display(RunView(config()), quiet=False) as shown, display(RunView(config()), quiet=True) as none:
            assert shown == kind
            assert none not in ("live", "plain")
    monkeypatch.undo()


GROUPS = {"control-s1": "control", "control-s2": "control", "pulled-s1": "pulled", "pulled-s2": "pulled"}


def swept():
    """A view of four members after a round: two trained, one has stopped, one diverged."""
    ended = {"pulled-s1": Ended("stopped early", 2, 1), "pulled-s2": Ended("diverged", 0, 0)}
    view = SweepView(GROUPS, ended, num_programs=2)
    view.program = 1
    rates = {"windows_per_s": 3000.0, "seconds": 2.0, "warnings": {"few": "3 distinct"}}
    records = {
        "control-s1": record(3, **rates | {"val/loss": 0.002}),
        "control-s2": record(2, **rates | {"val/loss": 0.003}),
    }
    # 2 x 3,000 windows/s x 2 s in 4 s; 30 epochs at 2 s each.
    return view, Round(records, 4.0, 2, 30)


def test_lines_of_a_sweep(capsys):
    view, round_ = swept()
    with plain(view) as show:
        show(round_)
        assert capsys.readouterr().out == (
            "program 1/2  epoch 3  3,000 windows/s  at most 60 s left  "
            "2 live, 1 ended, 1 diverged, 2 with warnings\n"
        )
        worse = {"control-s2": record(3, seconds=1.0, **{"val/loss": 0.009})}
        show(Round(worse, 1.0, 1, 0))
        capsys.readouterr()
    assert capsys.readouterr().out == (
        "control: best validation loss 2.5000 (1e-3, mean of 2 runs)\n"
        "pulled: best validation loss - (1e-3, mean of 0 runs)\n"
    )


def test_table_of_a_sweep(capsys):
    view, round_ = swept()
    with live(view) as show:
        show(round_)
    out = capsys.readouterr().out
    for text in ("2 live, 1 ended, 1 diverged", "control", "2.5000", "pulled"):
        assert text in out


def test_the_table_of_a_sweep_fits_80_columns_and_has_the_best_on_top():
    groups = {f"config-{'x' * 60}-{number}": f"config-{'x' * 60}-{number}" for number in range(40)}
    view = SweepView(groups, {}, num_programs=1)
    losses = {name: {"val/loss": 0.003 - 1e-5 * number} for number, name in enumerate(groups)}
    records = {name: record(3, seconds=2.0, **changes) for name, changes in losses.items()}
    lines = render(view.table(Round(records, 4.0, 2, 30))).splitlines()
    assert max(map(len, lines)) <= 80
    assert "2.6100" in next(line for line in lines if "config-xx" in line)
    assert "and 28 more" in lines[-2] + lines[-1]


@pytest.mark.slow
def test_on_a_real_terminal(commands, tmp_path):
    leader, follower = pty.openpty()
    config = write_config(tmp_path / "in", make_rows())
    command = [sys.executable, "-m", "tftjax.train", str(config), "--runs", str(tmp_path / "runs")]
    environment = commands.environment | {"TERM": "xterm", "COLUMNS": "80", "LINES": "40"}
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
    assert "Test rows" in text
    assert "epoch 1/" not in text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    table = [line for line in re.split(r"[\r\n]+", plain) if "━" in line or "validation" in line]
    assert table
    assert max(map(len, table)) <= 80
