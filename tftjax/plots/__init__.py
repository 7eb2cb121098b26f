"""Figures: functions of a figure, a theme and arrays, each drawn alike for PNG files and for pages.

`theme` has the themes, and saves or renders a figure.
"""

import os
from importlib.util import find_spec
from pathlib import Path

from tftjax import face

__all__, __getattr__ = face(
    __name__,
    attribution="",
    chart="",
    forecasts="",
    interpretation="",
    panel="",
    revisions="",
    sweeps="",
    theme="",
    training="",
    walkforward="",
)


def drop_absent_backend() -> None:
    """Takes MPLBACKEND out of this process's environment if it names a backend that is not installed.

    A notebook gives its own to every process that it starts, also in an environment that lacks it; importing
    matplotlib would then fail, which arch and statsmodels do too. Figures here need no backend.
    """
    name, matplotlib = os.environ.get("MPLBACKEND", ""), find_spec("matplotlib")
    if not name or matplotlib is None:
        return
    if name.startswith("module://"):
        exists = find_spec(name.removeprefix("module://").partition(".")[0]) is not None
    else:
        exists = (Path(matplotlib.origin).parent / f"backends/backend_{name.lower()}.py").is_file()
    if not exists:
        del os.environ["MPLBACKEND"]
