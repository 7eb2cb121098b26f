import pandas as pd
import pytest

from tftjax.data.description import draw
from tftjax.data.panel import make_panel


@pytest.mark.parametrize(("column", "series"), [("$a_{$", None), ("$a_{", "$b")])
def test_names_are_drawn_as_they_are(tmp_path, column, series):
    """Two dollars in a title would make matplotlib read formulas, and refuse these."""
    frame = pd.DataFrame(
        {"ret": [0.01, -0.02, 0.0], column: [1.0, 2.0, 3.0], "id": [series] * 3},
        index=pd.bdate_range("2024-01-01", periods=3),
    )
    roles = {} if series is None else {"static_categorical": ("id",), "id_column": "id"}
    panel = make_panel(frame, target="ret", observed=("ret", column), **roles)
    draw(panel, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
