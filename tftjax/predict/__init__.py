"""Forecasts of the next steps, beyond the last row of the data.

`rows` reads what is forecast from and adds the steps ahead, `series` tells which series a run can forecast,
`windows` runs its network, `conformal` calibrates, `forecasts` makes tables of quantiles, `paths` of sample
paths; `origin` says what a forecast comes from, `log` keeps forecasts until `score` judges them by their
outcomes, and `export/` writes a run as files that forecast without this package.
"""

from tftjax import face

__all__, __getattr__ = face(
    __name__,
    export="",
    forecasts="predict forecast_seeds in_order",
    origin="LONG_AGO",
    paths="sample_paths",
    rows="load_rows",
    series="forecastable",
    windows="forecast_next",
)
