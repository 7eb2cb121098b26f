"""tftjax inside of other libraries, each of which is an extra: `sktime` is a forecaster of that library."""

from tftjax import face

__all__, __getattr__ = face(__name__, sktime="TFTForecaster")
