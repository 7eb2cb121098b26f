"""A sweep's directory: what lies in it, how it is made, replaced and gone on with.

sweep.json      the members and their configs
ended.json      the members that have ended, and how; ended-1.json: those of process 1
members/        a run each: see runs.py
checkpoints/    the states of the members that have not ended, by program
report.html     see report.py
ensembles/      the seeds of each config as one forecast: see sweep_ensembles.py
results.csv     a row a member; ensembles.csv, summary.csv, summary.md, *.png: see sweep_results.py

A walk-forward's has in place of the last two:

pooled/         each forecast over the test rows of all folds; folds.csv, ...: see walk_results.py
"""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from tftjax import files
from tftjax.config.loading import from_dict
from tftjax.data.panel import Panel
from tftjax.errors import UserError
from tftjax.storage import runs
from tftjax.storage.runs import Ended
from tftjax.sweep.plan import Member

CONTENTS = (
    "sweep.json",
    "members",
    "checkpoints",
    "lock",
    "ensembles",
    "results.csv",
    "ensembles.csv",
    "summary.csv",
    "summary.md",
    "metrics.png",
    "response.png",
    "report.html",
    "pooled",
    "folds.csv",
    "pooled.csv",
    "gains.csv",
    "folds.png",
)
FORECASTS = ("ensembles", "pooled")  # folders with a folder a forecast, in which evaluation/ lies


def create(folder: Path, members: Sequence[Member], *, resume: bool, overwrite: bool) -> None:
    """Makes a sweep's directory, or finds the one to go on with.

    Raises:
      UserError: something lies there that is not to be replaced, or a sweep of other members.
    """
    # A kill while sweep.json was first written leaves nothing worth keeping.
    begun = folder.exists() and (
        not folder.is_dir() or {p.name for p in folder.iterdir()} - {"sweep.json.new"}
    )
    if begun:
        if resume:
            if _check_same(folder, members):
                _write_plan(folder, members)
            return
        if not overwrite:
            raise UserError(
                f"{folder} exists. Go on with it (--resume), replace it (--overwrite), or choose another "
                "place (--name, --runs)."
            )
        _remove(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}). Choose another --runs.") from error
    _write_plan(folder, members)


def _write_plan(folder: Path, members: Sequence[Member]) -> None:
    plan = [member._asdict() | {"config": member.config.model_dump(mode="json")} for member in members]
    files.write_json(folder / "sweep.json", {"members": plan})


def create_member(folder: Path, member: Member, panel: Panel, *, resume: bool) -> None:
    """Makes a member's run directory, unless there is one to go on with.

    Raises:
      UserError: something lies there, or it is a run of another config or other data.
    """
    directory = folder / "members" / member.name
    if not (resume and runs.check_resumable(directory, member.config, panel)):
        runs.create(directory, member.config, panel, overwrite=False)


def read_members(folder: Path) -> list[Member]:
    """Reads the members of a sweep.

    Raises:
      UserError: no sweep, or damaged.
    """
    path = folder / "sweep.json"
    if not path.is_file():
        raise UserError(f"{folder}: not a sweep (it has no sweep.json). Choose another --name or --runs.")
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))["members"]
        return [Member(**m | {"config": from_dict(m["config"], f"{path}, {m['name']}")}) for m in plan]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}). Bring a copy back, or choose another --name.") from error


def read_ended(folder: Path) -> dict[str, Ended]:
    """The members of a sweep that have ended, by name, whichever process trained them.

    Raises:
      UserError: a file is damaged.
    """
    ended: dict[str, Ended] = {}
    for path in sorted(folder.glob("ended*.json")):
        try:
            for name, value in json.loads(path.read_text(encoding="utf-8")).items():
                how = Ended(**value)
                evaluated = how.evaluated or (name in ended and ended[name].evaluated)
                ended[name] = how._replace(evaluated=evaluated)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: damaged ({error}). Delete it: --resume makes it anew.") from error
    return ended


def write_ended(folder: Path, host: int, ended: dict[str, Ended]) -> None:
    """Writes which members have ended, as far as this process knows, whole or not at all."""
    path = folder / (f"ended-{host}.json" if host else "ended.json")
    files.write_json(path, {name: how._asdict() for name, how in ended.items()})


def _check_same(folder: Path, members: Sequence[Member]) -> bool:
    """Whether the members are to be evaluated in another way; other differences are refused."""
    stored, planned = ({m.name: m.config for m in plan} for plan in (read_members(folder), members))
    if stored == planned:
        return False
    for name in stored.keys() & planned.keys():
        stored[name] = stored[name].model_copy(update={"evaluation": planned[name].evaluation})
    if stored == planned:
        return True
    gone, new = (sorted(a.keys() - b.keys()) for a, b in ((stored, planned), (planned, stored)))
    changed = sorted(name for name in stored.keys() & planned.keys() if stored[name] != planned[name])
    lines = [
        f"\n  {what}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
        for what, names in (("no longer there", gone), ("new", new), ("with other settings", changed))
        if names
    ]
    raise UserError(
        f"{folder}: --resume with other members:{''.join(lines)}\n"
        "Resume with the command that began the sweep, or use another --name."
    )


def _is_own(name: str) -> bool:
    name = name.removesuffix(".new")
    return name in CONTENTS or re.fullmatch(r"ended(-\d+)?\.json", name) is not None


def _remove(folder: Path) -> None:
    """Removes a sweep, and nothing else: whatever is no sweep's stops it before anything is removed."""
    foreign = [] if folder.is_dir() and not folder.is_symlink() else [folder.name]
    if not foreign:
        foreign = [p.name for p in folder.iterdir() if not _is_own(p.name)]
        known = {member.name for member in read_members(folder)}
        members = folder / "members"
        for path in members.iterdir() if members.is_dir() else ():
            is_run = path.name in known and path.is_dir() and not path.is_symlink()
            foreign += [f"{path.name}/{name}" for name in runs.foreign_files(path)] if is_run else [path.name]
        for path in (path for kind in FORECASTS for path in (folder / kind).glob("*")):
            is_folder = path.is_dir() and not path.is_symlink()
            names = [f"{path.name}/{inside.name}" for inside in path.iterdir()] if is_folder else [path.name]
            foreign += [name for name in names if not name.endswith("/evaluation")]
    if foreign:
        raise UserError(
            f"{folder}: --overwrite removes sweeps only, and in this one lies what is none's: "
            f"{', '.join(sorted(foreign)[:5])}. Remove it yourself, or choose another --name."
        )
    try:
        # sweep.json last: a kill halfway leaves what can still be told from a foreign directory.
        for path in sorted(folder.iterdir(), key=lambda path: path.name == "sweep.json"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:
        raise UserError(f"{folder}: cannot be removed ({error.strerror}).") from error
