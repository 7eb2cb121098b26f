"""One HTML page a run, a sweep or a walk-forward: a file that asks for nothing.

`kinds` tells them apart, a module a kind says what stands on its page, `page` renders it.
"""

from tftjax import face

__all__, __getattr__ = face(
    __name__,
    kinds="report",
)
