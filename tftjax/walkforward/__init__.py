"""Training anew for every test period, judged over all of them together.

`plan` makes the folds, `pool` joins their forecasts, `results` writes and `summary` tabulates them.
"""

from tftjax import face

__all__, __getattr__ = face(__name__, files="Walk read_walk", plan="folds", pool="", summary="")
