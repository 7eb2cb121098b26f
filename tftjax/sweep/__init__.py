"""Many configs and seeds: how members are planned, trained together, averaged and compared.

`tune/` is the sweep whose members are chosen as it goes.
"""

from tftjax import face

__all__, __getattr__ = face(
    __name__,
    choice="",
    ensembles="",
    final="",
    members="",
    parts="",
    plan="Member make_plan",
    results="",
    run="sweep",
    tune="",
)
