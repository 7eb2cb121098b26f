"""Panels: rows that hold what was known at the end of each day, from raw series or a table of one's own.

`loading` finds and aligns, `prepared` splits, scales and cuts into windows for a config, `checks` refuses
what cannot be trained on, and `volatility` has every volatility that is known at a row. The sources of raw
series are in `raw`, tables of one's own in `tables`, series of one's own with release dates in `series`.
"""

from tftjax import face

__all__, __getattr__ = face(
    __name__,
    alignment="",
    calendar="",
    checks="check_data with_own_spread",
    conditions="",
    encoding="Encoding",
    feature_sets="",
    loading="load_panel",
    newest="",
    panel="Panel make_panel",
    prepared="Data prepare",
    raw="",
    scales="",
    series="",
    splits="",
    tables="",
    volatility="",
    windows="Series",
)
