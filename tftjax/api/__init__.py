"""The face for Python: `fit`, `fit_sweep`, `search`, `backtest` and `load`, and the results that they give.

`arguments` makes a config of keywords, `training` trains, `results` has what came out, as frames and figures.
"""

from tftjax import face

__all__, __getattr__ = face(
    __name__,
    arguments="make_config",
    results="Backtest LearningRates Run Search Sweep",
    training="backtest find_learning_rate fit fit_sweep fit_without_judging load search",
)
