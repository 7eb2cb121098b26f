"""Parts of a sweep, each trained by a command of its own, as in an array of jobs; how they come together.

Part I of N has every N-th member, from the I-th on. Parts know nothing of each other: they make the same
plan, and train into one folder at once or into a folder each.
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from tftjax.errors import UserError, listed
from tftjax.storage.directories import SweepDirectory, lock
from tftjax.sweep.members import plan_differences, read_ended, read_members, write_ended
from tftjax.sweep.plan import Member

T = TypeVar("T")


class Part(NamedTuple):
    """One part of several; its number counts from 1."""

    number: int
    count: int

    @property
    def label(self) -> str:
        """The part in names of files.

        >>> Part(2, 3).label
        '2-of-3'
        """
        return f"{self.number}-of-{self.count}"

    def share(self, members: Sequence[T]) -> list[T]:
        """The part's members.

        >>> Part(2, 3).share("abcdefgh")
        ['b', 'e', 'h']
        """
        return list(members[self.number - 1 :: self.count])


def read_part(text: str) -> Part:
    """Reads I/N.

    Raises:
      UserError: it is none, or I is not one of 1 to N.
    """
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    part = Part(*map(int, found.groups())) if found else None
    if part is None or not 1 <= part.number <= part.count:
        raise UserError(f"--part {text}: expected I/N with I from 1 to N, such as 2/8.")
    return part


def gather(folders: Sequence[Path], kind: str) -> list[Member]:
    """Brings the members of a sweep's parts together in the first folder, by copies of those that it lacks.

    Args:
      folders: of the same sweep.
      kind: "sweep" or "walk-forward", as the command expects it.
    Returns:
      The sweep's members, which have all ended.
    Raises:
      UserError: folders of other sweeps; a part that is missing, by name; or what cannot be copied.
    """
    first, members = folders[0], read_members(folders[0])
    found = "walk-forward" if members and members[0].fold else "sweep"
    if found != kind:
        command = found.replace("-", "")
        raise UserError(f"{first}: found a {found}, expected a {kind}. Use tftjax {command} --conclude.")
    for folder in folders[1:]:
        if differences := plan_differences(members, read_members(folder)):
            raise UserError(
                f"{folder}: has other members than {first}:{differences}\nGive folders of one sweep, whose"
                " parts were trained by the same command but for --part, --name and --runs."
            )
    ended = {folder: read_ended(folder) for folder in folders}
    missing = [m.name for m in members if not any(m.name in outcomes for outcomes in ended.values())]
    if missing:
        raise UserError(
            f"{listed(folders)}: {_missing_parts(members, missing, folders)}. Train what is missing by the"
            " same command with its --part, or all that is left with --resume; then --conclude."
        )
    with lock(SweepDirectory(first)):
        for folder in folders[1:]:
            new = {name: end for name, end in ended[folder].items() if name not in ended[first]}
            for name in new:
                _copy(SweepDirectory(folder).member(name).path, SweepDirectory(first).member(name).path)
            ended[first] |= new
        write_ended(first, "", ended[first])
    return members


def _missing_parts(members: Sequence[Member], missing: Sequence[str], folders: Sequence[Path]) -> str:
    """Names the members that have not ended, and their parts where files tell how many there are."""
    names = [path.name for folder in folders for path in SweepDirectory(folder).all_ended()]
    counts = {int(found[1]) for name in names if (found := re.search(r"-of-(\d+)\.json$", name))}
    told = f"{len(missing)} of {len(members)} members have not ended"
    if len(counts) != 1:
        return f"{told}: {listed(missing)}"
    (count,) = counts
    parts = [Part(number, count) for number in range(1, min(count, len(members)) + 1)]
    lacking = [
        f"part {part.number}/{count} ({listed(own)})"
        for part in parts
        if (own := [member.name for member in part.share(members) if member.name in missing])
    ]
    return f"{told}, of {'; '.join(lacking)}"


def _copy(source: Path, target: Path) -> None:
    """Copies a member's folder whole or not at all.

    Raises:
      UserError: it cannot be copied, or something lies in its place.
    """
    if target.exists():
        raise UserError(
            f"{target}: has not ended, while {source} has. Remove the one in {target.parent}, or finish it"
            " (--resume)."
        )
    half = target.with_name(f"{target.name}.new")
    try:
        shutil.rmtree(half, ignore_errors=True)  # what a kill left
        shutil.copytree(source, half, symlinks=True, ignore=shutil.ignore_patterns("lock"))
        half.rename(target)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(half, ignore_errors=True)
        raise UserError(
            f"{target}: cannot be written ({error}). Free space; then --conclude again."
        ) from error
