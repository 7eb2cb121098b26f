"""Files on the disk: directories, runs and checkpoints.

`directories` names every file of a run, a sweep and a walk-forward, and makes, locks and removes them;
`checkpoint` saves and restores named arrays and JSON; `runs` opens what was trained; `forecast_log` keeps
forecasts until their outcomes come.
"""

from tftjax import face

__all__, __getattr__ = face(
    __name__,
    checkpoint="",
    directories="RunDirectory SweepDirectory",
    forecast_log="",
    runs="Run open_run",
)
