"""Weights that a trained model gives to its inputs and steps.

`weights` collects them from all windows, `tables` sums them up.
"""

from tftjax import face

__all__, __getattr__ = face(
    __name__,
    tables="interpret",
)
