"""The console command: help and version in no time, a command's own help, completion by the shell."""

import gc
import json
import os
import re
import subprocess
import sys

import pytest
from tiny import ROOT, make_rows, write_config

from tftjax import __version__, cli

# As the console command's script and `python -m tftjax.COMMAND` begin.
CONSOLE = "import sys; sys.argv[0] = 'tftjax'; from tftjax.cli import main; "


def run(code, *arguments, **environment):
    """Runs Python code in a process of its own; returns what it wrote."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "80"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_arguments_it_prints_the_help(capsys):
    assert cli.main([]) == 0
    alone = capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == alone
    assert all(re.search(rf"^  {command} +\w", alone, re.MULTILINE) for command in cli.COMMANDS)


def test_version(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"tftjax {__version__}\n"
    command = [sys.executable, "-m", "tftjax", "--version"]
    assert subprocess.run(command, capture_output=True, text=True).stdout == f"tftjax {__version__}\n"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_says_what_a_command_does_in_80_columns_with_an_example(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["/usr/bin/tftjax", command, "--help"])
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"usage: tftjax {command} ")
    assert max(map(len, lines)) <= 80
    shown = [line for line in lines if line.startswith(f"  tftjax {command}")]
    assert shown
    for example in shown:  # an example is a command line that the parser takes
        words = example.split()[2:]
        cli.door(command).make_parser().parse_args(words[: words.index(">")] if ">" in words else words)


@pytest.mark.parametrize(
    ("started", "shown"),
    [
        ("/bin/tftjax", "tftjax train"),
        ("/lib/tftjax/train/__main__.py", "python -m tftjax.train"),
        ("/lib/pytest/__main__.py", "tftjax train"),
    ],
)
def test_usage_names_the_command_that_was_typed(started, shown, monkeypatch):
    monkeypatch.setattr(sys, "argv", [started])
    assert cli.command_parser("train", "Trains.", "c.json").prog == shown


def test_usage_of_a_command_of_one_file(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/lib/tftjax/predict/score.py"])
    assert cli.command_parser("score", "Scores.", "log.csv").prog == "python -m tftjax.predict.score"


def test_set_is_explained_where_it_is_a_flag():
    for command in ("train", "sweep", "walkforward"):
        text = " ".join(cli.door(command).make_parser().format_help().split())
        assert "`tftjax config keys` lists the settings" in text


HEAVY = "{'jax', 'flax', 'pandas', 'numpy', 'matplotlib', 'scipy', 'rich', 'ray'} & set(sys.modules)"


@pytest.mark.parametrize(
    "code", ["import sys, tftjax", CONSOLE + "main([])", CONSOLE + "main(['config', 'keys'])"]
)
def test_import_and_help_need_no_library(code):
    run(f"{code}; assert not {HEAVY}, {HEAVY}")


@pytest.mark.parametrize(
    "command", ["demo", "train", "sweep", "walkforward", "evaluate", "interpret", "report"]
)
def test_help_of_a_command_does_not_wait_for_jax(command):
    code = f"from tftjax.cli import door; door({command!r}).make_parser(); assert 'jax' not in sys.modules"
    run(CONSOLE + code)


# Of evaluation and pictures: two seconds to import.
LATE = "{'scipy', 'statsmodels', 'arch', 'matplotlib', 'polars', 'lightgbm', 'sklearn'} & set(sys.modules)"


def test_an_epoch_does_not_wait_for_the_libraries_of_evaluation(tmp_path):
    """The config is read then, the data are ready, the run has its directory."""
    config = write_config(tmp_path, make_rows())
    arrived = f"import tftjax.train.run as r; r.train_members = lambda *_: sys.exit(print({LATE}))"
    out = run(f"{CONSOLE}{arrived}; main(['train', {str(config)!r}, '--runs', {str(tmp_path)!r}])")
    assert out.splitlines()[-1] == "set()"
    assert (tmp_path / "tiny" / "panel.json").is_file()


@pytest.mark.slow
def test_a_prediction_does_without_the_libraries_of_evaluation(trained):
    out = run(f"{CONSOLE}main(['predict', {str(trained.directory)!r}]); print({LATE})")
    assert out.startswith("Forecast from data to")
    assert out.splitlines()[-1] == "set()"


def test_what_is_imported_is_kept_from_the_search_for_garbage():
    before = gc.get_freeze_count()
    with cli.importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > before
    gc.unfreeze()


def completed(line, tmp_path):
    """What a shell is told when the tab key is pressed at the end of a line."""
    out = tmp_path / "out"
    shell = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(out), "_ARGCOMPLETE_IFS": "\n"}
    run(CONSOLE + "main()", **shell, COMP_LINE=line, COMP_POINT=str(len(line)))
    return [word.strip() for word in out.read_text(encoding="utf-8").split("\n")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tftjax walk", {"walkforward"}),
        ("tftjax train --ov", {"--overwrite"}),
        ("tftjax config ", {"keys", "schema"}),
        ("tftjax compare a b --split ", {"val", "test"}),
    ],
)
def test_a_shell_completes_commands_and_flags(line, expected, tmp_path):
    assert expected <= set(completed(line, tmp_path))


def test_without_argcomplete_nothing_is_completed_and_nothing_is_run(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    monkeypatch.setenv("COMP_LINE", "tftjax ")
    monkeypatch.setenv("COMP_POINT", "7")
    assert cli.main(["config", "keys"]) == 0
    assert capsys.readouterr().out == ""


def test_keys_lists_settings_with_defaults(capsys):
    assert cli.main(["config", "keys"]) == 0
    text = capsys.readouterr().out
    assert "train.max_epochs  (default 100)\n    epochs; sane: 20 to 300\n" in text
    assert "data.columns.target  (to be given)\n" in text
    assert "functions." not in text
    assert max(map(len, text.splitlines())) <= 80
    assert cli.main(["config", "keys", "EPOCHS", "warm"]) == 0
    found = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert found == ["train.warmup_epochs  (default 0)", "train.warmup_share  (default 0.0)"]


def test_keys_knows_the_words_of_others(capsys):
    assert cli.main(["config", "keys", "lr"]) == 0
    assert "train.learning_rate  (default 0.0005)\n" in capsys.readouterr().out


def test_keys_without_a_match_names_near_ones(capsys):
    assert cli.main(["config", "keys", "traget"]) == 2
    assert "Did you mean 'data.columns.target'?" in capsys.readouterr().err
    assert cli.main(["config", "schema"]) == 0
    assert "properties" in json.loads(capsys.readouterr().out)


PRINTS = """
import sys
from tftjax.cli import exit_code

def command():
    for number in range(50_000):
        print(number)
    open("ended", "w").close()

sys.exit(exit_code(command))
"""


@pytest.mark.parametrize("shell", ["| head -1; test ${PIPESTATUS[0]} = 0", ">&-", "2>&- | tail -1"])
def test_a_reader_that_leaves_ends_no_work(shell, tmp_path):
    """A table cut short ends silently, and what trains goes on training."""
    (tmp_path / "prints.py").write_text(PRINTS)
    line = f"{sys.executable} prints.py {shell}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (tmp_path / "ended").exists()


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["trian"])
    assert stopped.value.code == 2
    assert "found 'trian', expected a command. Did you mean 'train'?" in capsys.readouterr().err


FINDER = """
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in ("jax", "numpy"):
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
"""
LINES = {
    "demo": "",
    "init": "a.csv",
    "train": "a.json",
    "sweep": "a.json",
    "walkforward": "a.json --first-test 2006 --last-test 2007",
    "evaluate": "a",
    "compare": "a b",
    "predict": "a",
    "score": "a --run b",
    "interpret": "a",
    "report": "a",
    "data": "validate",
}


@pytest.mark.parametrize("started", ["tftjax", "python -m tftjax"])
@pytest.mark.parametrize("command", LINES)
def test_ctrl_c_while_libraries_are_imported_is_no_traceback(command, started, tmp_path):
    code = f"{FINDER}\nimport runpy\nsys.argv[0] = 'tftjax'\n"
    if started == "tftjax":
        code += f"from tftjax import cli\nsys.exit(cli.main(['{command}', *sys.argv[1:]]))"
    else:
        module = cli.door_of(command).removesuffix(".__main__")
        code += f"runpy.run_module('{module}', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, *LINES[command].split()],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
