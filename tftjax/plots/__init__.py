"""Every figure once: a function of a figure, a theme and arrays.

`theme` has two themes, one of PNG files and one of pages, and saves or renders.
"""

from tftjax import face

__all__, __getattr__ = face(
    __name__,
    forecasts="",
    interpretation="",
    sweeps="",
    theme="",
    training="",
    walkforward="",
)
