import pandas as pd
import pytest

from tftjax.plots import panel as figures
from tftjax.plots.theme import save


@pytest.mark.parametrize(("column", "series"), [("$a_{$", None), ("$a_{", "$b")])
def test_names_are_drawn_as_they_are(tmp_path, column, series):
    """Two dollars in a title would make matplotlib read formulas, and refuse these."""
    table = pd.DataFrame(
        {"ret": [0.01, -0.02, 0.0], column: [1.0, 2.0, 3.0]}, pd.bdate_range("2024-01-01", periods=3)
    )
    save(tmp_path / "plot.png", figures.columns_drawing(table, ["ret", column], series or ""))
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
