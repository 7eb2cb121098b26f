"""Weights that a trained model gives to its inputs and steps, and what its forecasts depend on.

`weights` collects weights from all windows, `tables` sums them up; `attribution` changes inputs and looks at
forecasts.
"""

from tftjax import face

__all__, __getattr__ = face(
    __name__,
    attribution="attribute",
    tables="interpret",
)
