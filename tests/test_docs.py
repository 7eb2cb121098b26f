"""The code of docs/ runs, links lead somewhere, and the diffs of CONTRIBUTING.md fit the code."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from tiny import few_baselines

from tftjax.config.loading import from_dict
from tftjax.errors import UserError

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CELLS = json.loads((DOCS / "quickstart.ipynb").read_text(encoding="utf-8"))["cells"]
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md"), ROOT / "data" / "README.md"])
SMALLER = {
    "max_epochs=8": "max_epochs=1, hidden_size=4, num_heads=1",
    "frame.tail(3)": "frame = frame.tail(900)",
    '"max_epochs": 2': '"max_epochs": 1, "hidden_size": 4, "num_heads": 1',
}


def run(code, monkeypatch):
    """The names that a page's code leaves, with a smaller model on fewer rows and fewer baselines."""
    monkeypatch.chdir(DOCS)
    for old, new in SMALLER.items():
        code = code.replace(old, new)
    names: dict = {}
    with few_baselines("ewma_scaled"):
        exec(code, names)
    return names


@pytest.mark.slow
def test_the_notebook_runs(monkeypatch, capsys):
    pytest.importorskip("exchange_calendars")
    code = "\n".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code")
    names = run(code, monkeypatch)
    assert "baselines" in capsys.readouterr().out
    assert names["final"].predict(future=names["next_days"]).index[0] == pd.Timestamp("2019-01-02")
    assert names["final"].directory.name == f"{names['run'].directory.name}-final"


@pytest.mark.slow
def test_the_page_on_own_functions_runs(monkeypatch):
    text = (DOCS / "own.md").read_text(encoding="utf-8")
    cells = re.findall(r"```\{code-cell\}[^\n]*\n(?::tags[^\n]*\n)?(.*?)```", text, re.DOTALL)
    names = run("\n".join(cells), monkeypatch)
    forecast = names["again"].predict()
    pd.testing.assert_frame_equal(forecast, names["run"].predict())
    steps = forecast.to_numpy()[0]  # alike on both sides of the median
    assert steps[-1] - steps[3] == pytest.approx(steps[3] - steps[0], rel=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("in_process", "quick_evaluation")
def test_the_page_on_point_in_time_data_runs(monkeypatch):
    text = (DOCS / "point-in-time.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (config,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert from_dict(json.loads(config), "the page").data.series["jobs"].release_rule == "days:35"
    smaller = "hidden_size=4, num_heads=1, max_epochs=1, quiet=True, baselines={}"
    names = run(code.replace("max_epochs=2", smaller), monkeypatch)
    panel = names["run"].trained[0].data.whole
    assert panel.observed == ("ret", "cpi")
    assert panel.staleness.loc["2019-03-14", "cpi"] == 28  # since 2019-02-14
    assert len(names["run"].predict(names["table"], vintages={"cpi": names["cpi"]})) == 1
    with pytest.raises(UserError, match=r"data\.series\.cpi: found neither a file nor a frame"):
        names["run"].predict(names["table"])
    with pytest.raises(UserError, match="2019-01-14"):  # a year's 12th change
        names["run"].predict(names["table"], vintages={"cpi": names["cpi"]}, as_of="2019-01-11")


def test_the_notebook_holds_no_outputs():
    assert not [cell for cell in CELLS if cell.get("outputs") or cell.get("execution_count")]


def anchors(page):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_diffs_of_contributing_fit_the_code():
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    diffs = re.findall(r"```diff\n(.*?)```", text, re.DOTALL)
    assert len(diffs) == 4
    for diff in diffs:
        command = ["git", "apply", "--check", "-p0", "-"]
        done = subprocess.run(command, cwd=ROOT, input=diff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
