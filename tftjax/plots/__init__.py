"""Figures: functions of a figure, a theme and arrays, each drawn alike for PNG files and for pages.

`theme` has the themes, and saves or renders a figure.
"""

from tftjax import face

__all__, __getattr__ = face(
    __name__, forecasts="", interpretation="", sweeps="", theme="", training="", walkforward=""
)
