"""What a sweep shows: lines without a terminal, a table on one, nothing when quiet."""

import pytest

from tftjax.config.loading import Config
from tftjax.sweep.plan import Member
from tftjax.sweep.progress import LiveProgress, PlainProgress, Status, choose
from tftjax.train.progress import NoProgress

MEMBERS = [Member(f"{group}-s{seed}", group, Config()) for group in ("control", "pulled") for seed in (1, 2)]
STATUS = Status(
    program=1,
    num_programs=2,
    epoch=3,
    live=2,
    stopped=1,
    diverged=1,
    warned=2,
    windows_per_s=12345.6,
    seconds_left=61.4,
    best={"control": [0.002, 0.003]},
)


def test_lines(capsys):
    with PlainProgress(MEMBERS) as display:
        display.update(STATUS)
        assert capsys.readouterr().out == (
            "program 1/2  epoch 3  2 live, 1 stopped, 1 diverged, 2 with warnings  12,346 windows/s  "
            "at most 61 s left\n"
        )
    assert capsys.readouterr().out == (
        "control: best validation loss 2.5000 (1e-3, mean of 2 runs)\n"
        "pulled: best validation loss - (1e-3, mean of 0 runs)\n"
    )


def test_table(capsys):
    with LiveProgress(MEMBERS) as display:
        display.update(STATUS)
    out = capsys.readouterr().out
    for text in ("2 live, 1 stopped, 1 diverged", "control", "2.5000", "pulled"):
        assert text in out


@pytest.mark.parametrize(
    ("quiet", "terminal", "kind"), [(True, True, NoProgress), (False, False, PlainProgress)]
)
def test_choice(quiet, terminal, kind, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    assert choose(quiet) is kind
    with NoProgress(MEMBERS) as display:
        display.update(STATUS)
    assert capsys.readouterr().out == ""
