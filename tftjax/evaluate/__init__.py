"""Measures of forecasts, beside baselines that need no network.

`metrics`, `baselines`, `quality` and `trading` are tables of functions on arrays, `significance` has the
tests; `calibration` makes other levels, calibrated quantiles and sample paths of a forecast; `scoring`
applies measures and tests to a split and its regimes, `evaluation` to a run; `foreign` reads forecasts of
other libraries, `combination` asks what the model adds, `compare` whether one run is worse than another;
`tables` and `formatting` write the results, `files` keeps and checks them, `verdict` sums them up. Nothing
here draws or trains.
"""

from tftjax import face

__all__, __getattr__ = face(
    __name__,
    baselines="BASELINES",
    calibration="",
    combination="",
    compare="",
    evaluation="Evaluated evaluate",
    files="Evaluation read_evaluation",
    foreign="ForeignForecast read_foreign",
    formatting="",
    metrics="METRICS",
    quality="MODES",
    scoring="",
    significance="diebold_mariano",
    tables="Table",
    trading="",
    verdict="summary",
)
