"""docs/quickstart.ipynb runs, here with a smaller model on fewer rows, and shows what it says."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

DOCS = Path(__file__).parents[2] / "docs"
CELLS = json.loads((DOCS / "quickstart.ipynb").read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


@pytest.mark.slow
def test_the_notebook_runs(monkeypatch, capsys):
    pytest.importorskip("exchange_calendars")
    monkeypatch.chdir(DOCS)
    names: dict = {}
    text = re.sub("max_epochs=8", "max_epochs=1, hidden_size=4, num_heads=1", "\n".join(CODE))
    exec(text.replace("frame.tail(3)", "frame = frame.tail(900)"), names)
    assert "baselines" in capsys.readouterr().out
    assert names["final"].predict(future=names["next_days"]).index[0] == pd.Timestamp("2019-01-02")
    assert names["final"].directory.name == f"{names['run'].directory.name}-final"
    assert names["own"].config.loss.own_weights == {"narrow": 0.05}


def test_the_notebook_was_run_without_an_error():
    outputs = [output for cell in CELLS for output in cell.get("outputs", ())]
    assert len(outputs) >= len(CODE) - 1
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
