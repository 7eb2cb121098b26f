"""One HTML page a run, a sweep or a walk-forward: a file that needs no other.

`kinds` tells them apart, a module a kind collects the parts of its page, `page` renders it.
"""

from tftjax import face

__all__, __getattr__ = face(__name__, kinds="report")
