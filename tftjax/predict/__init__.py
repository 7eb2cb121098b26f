"""Forecasts of the next steps, beyond the last row of the data.

`forecasts` makes them, `score` judges those that were logged, once their outcomes have come, and `export/`
writes a run as files that forecast without this package.
"""

from tftjax import face

__all__, __getattr__ = face(
    __name__,
    export="",
    forecasts="predict forecast_next forecast_seeds forecastable load_rows sample_paths shown_as",
)
