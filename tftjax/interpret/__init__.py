"""What a trained model selects and attends to.

`weights` collects them from all windows, `tables` sums them up.
"""

from tftjax import face

__all__, __getattr__ = face(
    __name__,
    tables="interpret",
)
