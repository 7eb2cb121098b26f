"""The members of a sweep on disk: their plan, their runs, and how each ended."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tftjax import files
from tftjax.config.loading import from_dict
from tftjax.data.panel import Panel
from tftjax.errors import UserError, both
from tftjax.storage import directories, runs
from tftjax.storage.directories import REMEDY, SweepDirectory
from tftjax.storage.runs import Ended
from tftjax.sweep.plan import Member


@contextlib.contextmanager
def claim(
    folder: Path, members: Sequence[Member], *, resume: bool = False, overwrite: bool = False
) -> Iterator[None]:
    """`directories.claim` of a sweep's directory; one to go on with takes new settings of `evaluation`.

    Raises:
      UserError: see `directories.claim`; or the sweep to go on with has other members.
    """
    write, check = (partial(step, folder, members) for step in (_write_plan, _check_same))
    with directories.claim(
        SweepDirectory(folder), write, check, resume=resume, overwrite=overwrite
    ) as goes_on:
        if goes_on:
            write()
        yield


def make_joint(folder: Path, members: Sequence[Member]) -> None:
    """`directories.make_joint` of a sweep's directory, for one of its parts.

    Raises:
      UserError: see `directories.make_joint`; or the sweep in the directory has other members, or some start
        from others.
    """
    for name, source in sources(folder, members).items():
        raise UserError(
            f"--part: {name} starts from {source}, which another part may train. Leave --part out, or what"
            " lets members start from each other (--warm-start)."
        )
    write, check = (partial(step, folder, members) for step in (_write_plan, _check_same))
    directories.make_joint(SweepDirectory(folder), write, check)


def _write_plan(folder: Path, members: Sequence[Member]) -> None:
    plan = [member._asdict() | {"config": member.config.model_dump(mode="json")} for member in members]
    SweepDirectory(folder).write(plan)


def create_member(
    folder: Path, member: Member, panel: Panel, *, resume: bool, like: Path | None = None
) -> Path:
    """Makes a member's run directory, unless there is one to go on with; returns it.

    Args:
      like: the directory of a member of the same panel.
    Raises:
      UserError: something else lies in its place, or a run of another config or other data.
    """
    directory = SweepDirectory(folder).member(member.name).path
    with runs.claim(directory, member.config, panel, resume=resume, like=like):
        return directory


def read_members(folder: Path) -> list[Member]:
    """Reads the members of a sweep.

    Raises:
      UserError: the directory is no sweep, or its plan is damaged.
    """
    sweep = SweepDirectory(folder)
    read = []
    for raw in sweep.read():
        where = f"{sweep.plan}, {raw['name']}"
        config = from_dict(files.check(raw.get("config"), dict[str, Any], where, REMEDY), where)
        member = files.check(raw | {"config": config}, Member, where, REMEDY)
        read.append(member._replace(tests=tuple(member.tests)))
    return read


def read_ended(folder: Path) -> dict[str, Ended]:
    """The members of a sweep that have ended, by name, whichever part trained them.

    Raises:
      UserError: a file is damaged.
    """
    ended: dict[str, Ended] = {}
    remedy = f"Delete it: going on makes it anew ({both('--resume')})."
    for path in SweepDirectory(folder).all_ended():
        outcomes = files.check(files.read_json(path, remedy), dict[str, Ended], path, remedy)
        for name, outcome in outcomes.items():
            evaluated = outcome.evaluated or (name in ended and ended[name].evaluated)
            ended[name] = outcome._replace(evaluated=evaluated)
    return ended


def sources(folder: Path, members: Sequence[Member]) -> dict[str, str]:
    """By name of a member that starts from another one of its sweep, that one's name."""
    inside = SweepDirectory(folder).members.resolve()
    given = {member.name: member.config.train.init_from for member in members}
    starts = {name: Path(start).resolve() for name, start in given.items() if start is not None}
    return {name: start.name for name, start in starts.items() if start.parent == inside}


def write_ended(folder: Path, part: str, ended: Mapping[str, Ended]) -> None:
    """Writes how members have ended, as far as a part knows, whole or not at all.

    Args:
      part: the part's label; empty for a sweep that is not divided.
    """
    outcomes = {name: outcome._asdict() for name, outcome in ended.items()}
    files.write_json(SweepDirectory(folder).ended(part), outcomes)


def plan_differences(stored: Sequence[Member], planned: Sequence[Member]) -> str:
    """Lines that say in which members two plans differ; empty if in none."""
    before, after = ({member.name: member.config for member in plan} for plan in (stored, planned))
    gone, new = (sorted(a.keys() - b.keys()) for a, b in ((before, after), (after, before)))
    changed = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])
    return "".join(
        f"\n  {what}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
        for what, names in (("no longer there", gone), ("new", new), ("with other settings", changed))
        if names
    )


def _check_same(folder: Path, members: Sequence[Member]) -> None:
    """Refuses members that differ in more than how they are evaluated."""
    stored, planned = read_members(folder), {member.name: member.config for member in members}
    for place, member in enumerate(stored):
        if member.name in planned:
            functions = planned[member.name].functions
            judged = {kind: getattr(functions, kind) for kind in ("metrics", "baselines")}
            update = {"evaluation": planned[member.name].evaluation}
            update["functions"] = member.config.functions.model_copy(update=judged)
            stored[place] = member._replace(config=member.config.model_copy(update=update))
    if differences := plan_differences(stored, members):
        raise UserError(
            f"{folder}: {both('--resume')}, with other members:{differences}\n"
            f"Resume with the command that began the sweep, or use another {both('--name')}."
        )
