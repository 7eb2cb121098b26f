"""A source of raw series is a function and a line of a table."""

import json

import numpy as np

from tftjax.data.__main__ import main
from tftjax.data.raw.sources import SOURCES


def test_a_source_is_a_line_of_the_table(tmp_path, monkeypatch):
    days = np.arange(np.datetime64("2018-01-01"), np.datetime64("2018-02-01"))
    lines = "".join(f"{day},{20 + i % 7}\n" for i, day in enumerate(days[np.is_busday(days)]))

    def mine(names, folder, base_url):
        folder.mkdir()
        for name in names:
            (folder / f"{name}.csv").write_text(f"observation_date,{name}\n{lines}")

    monkeypatch.setitem(SOURCES, "mine", mine)
    raw, out = tmp_path / "raw", tmp_path / "panel"
    arguments = ["build", "--source", "mine", "--feature-set", "market_only"]
    assert main([*arguments, "--raw", str(raw), "--out", str(out)]) == 0
    assert sorted(path.name for path in raw.iterdir()) == ["SP500.csv", "VIXCLS.csv"]
    assert json.loads((out / "panel.json").read_text())["about"]["source"] == "mine"
