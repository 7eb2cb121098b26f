"""The console command: its help, names, keys and completion."""

import os
import subprocess
import sys

import pytest
from tiny import ROOT

from tftjax import cli
from tftjax.config.__main__ import keys_text
from tftjax.config.__main__ import main as config_main
from tftjax.config.loading import all_keys
from tftjax.errors import UserError

EVERY = list(cli.COMMANDS)


@pytest.fixture
def started_as(monkeypatch):
    """Sets how the process was started, and a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    return lambda path: monkeypatch.setattr(sys, "argv", [path])


def help_of(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_without_arguments_it_prints_the_help(capsys):
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: tftjax")
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")][4:] == EVERY


@pytest.mark.parametrize("command", EVERY)
def test_every_command_has_words_and_an_example(command, started_as, capsys):
    started_as("/somewhere/bin/tftjax")
    text = help_of(command, capsys)
    assert text.startswith(f"usage: tftjax {command} ")
    assert f"example: tftjax {command}" in text
    words = text.split("\n\n")[1]
    assert len(words.split()) > 5
    assert max(map(len, text.splitlines())) <= 80
    if command in ("train", "sweep", "walkforward"):
        assert "tftjax config keys" in " ".join(text.split())
        assert "train.max_epochs=5" in text


def test_a_module_shows_its_own_name(started_as, capsys):
    started_as("/somewhere/tftjax/train/__main__.py")
    assert help_of("train", capsys).startswith("usage: python -m tftjax.train ")


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["trian"])
    assert stopped.value.code == 2
    assert "invalid choice: 'trian'" in capsys.readouterr().err


def test_keys_are_listed_with_default_and_meaning(capsys):
    assert config_main(["keys"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(all_keys())
    assert max(map(len, lines)) <= 125  # defaults of many values are one line
    assert keys_text("max_epochs") == (
        "train.max_epochs = 100\n    epochs; sane: 20 to 300\n"
        "train.warmup_epochs = 0\n    warm-up epochs, below max_epochs; 0 unless schedule is 'warmup_cosine'"
    )
    assert "data.columns.target (has no default)\n" in keys_text("data.columns")
    assert keys_text("PATIENCE").startswith("train.patience = 10\n")
    assert "train.learning_rate = 0.0005" in keys_text("lr")  # by another library's word
    assert "learning_rate" not in keys_text("lstm")


def test_a_word_that_no_key_has(capsys):
    with pytest.raises(UserError, match=r"no key has 'pateince'.* Did you mean 'train\.patience'"):
        keys_text("pateince")
    assert config_main(["keys", "zzzz"]) == 2
    assert "no key has 'zzzz'" in capsys.readouterr().err


HELP = "import sys; from tftjax.cli import main; main([]); print({modules}, file=sys.stderr)"


def test_the_help_needs_neither_jax_nor_pandas():
    loaded = "[name for name in ('jax', 'pandas', 'numpy', 'rich', 'argcomplete') if name in sys.modules]"
    script = HELP.format(modules=loaded)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"


@pytest.mark.skipif(os.name != "posix", reason="argcomplete speaks to shells through file descriptors")
@pytest.mark.parametrize(
    ("line", "found"), [("tftjax tr", ["train "]), ("tftjax train pypro", ["pyproject.toml "])]
)
def test_completion_of_commands_and_files(line, found, tmp_path):
    pytest.importorskip("argcomplete")
    out = tmp_path / "out"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    asked |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(out), "_ARGCOMPLETE_SUPPRESS_SPACE": "0"}
    script = "from tftjax.cli import main; main()"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=os.environ | asked, check=False, timeout=60)
    assert out.read_text().split("\n") == found
