"""Commands need no backend of matplotlib, whatever the environment names."""

import os
import subprocess
import sys

import pytest

from tftjax.plots import drop_absent_backend


@pytest.mark.parametrize(
    ("name", "stays"),
    [("module://absent.backend_inline", False), ("nonsense", False), ("AGG", True), ("module://json", True)],
)
def test_a_backend_that_is_not_installed_is_dropped(name, stays, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", name)
    drop_absent_backend()
    assert ("MPLBACKEND" in os.environ) == stays


def test_a_command_started_by_a_notebook_draws(tmp_path):
    command = [sys.executable, "-m", "tftjax.data", "describe", "embedded", "--plot", "a.png"]
    environment = {**os.environ, "MPLBACKEND": "module://absent.backend_inline"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (tmp_path / "a.png").stat().st_size > 0
