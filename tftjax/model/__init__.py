"""The network of Lim et al. 2021, module by module, with its variants in tables.

`tft` is the wiring in the order of the paper, `parameters` names, initialises and flattens, in `parts`;
`forecast` runs windows through a trained network.
"""

from tftjax import face

__all__, __getattr__ = face(
    __name__,
    attention="MASKS",
    forecast="forecast_rows",
    heads="",
    layers="",
    parameters="build_model",
    parts="PARTS",
    regime="GATES",
    staleness="",
    tft="TFTOutput TemporalFusionTransformer",
)
