"""The same folds trained once more, on their validation rows too, for the epochs that validation chose.

    python -m tftjax.walkforward configs/control.json --first-test 2006 --last-test 2018 --refit

What is tested is then what a user would have had who throws no row away. Nothing is chosen in it: every
parameter kept is the last. It is a walk-forward of its own, in a folder beside the one that chose.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tftjax.config.loading import from_dict
from tftjax.data.panel import Panel
from tftjax.data.prepared import Data
from tftjax.errors import UserError, both
from tftjax.storage.directories import SweepDirectory
from tftjax.storage.runs import Ended
from tftjax.sweep.members import read_ended, read_members
from tftjax.sweep.plan import Member
from tftjax.sweep.run import load_data, sweep
from tftjax.train.run import chosen_steps
from tftjax.walkforward import results

log = logging.getLogger(__name__)


def folder_of(folder: Path) -> Path:
    """The folder of the walk-forward that is fitted anew, beside the one that chose."""
    return folder.with_name(f"{folder.name}-refit")


def check_free(folder: Path, *, resume: bool, overwrite: bool, **_: Any) -> None:
    """Refuses, before the first training, a folder of a refit that is there.

    Raises:
      UserError: names it.
    """
    taken = folder_of(folder)
    if taken.exists() and not (resume or overwrite):
        raise UserError(
            f"{taken}: exists. Go on with both walk-forwards ({both('--resume')}), replace both"
            f" ({both('--overwrite')}), move it away, or choose another name."
        )


def refit(folder: Path, data: Mapping[str, Data], panel: Panel | None, **flags: Any) -> Path:
    """Trains the members of a walk-forward that has ended once more, in a folder of their own.

    Args:
      folder: the walk-forward's; members of it that diverged are left out, and logged.
      data: each member's data, by its name.
      panel: the data of all members; None loads what their configs name.
      flags: see `sweep`.
    Returns:
      The folder.
    Raises:
      UserError: see `load_data` and `sweep`.
    """
    members, ended = read_members(folder), read_ended(folder)
    lost = [member.name for member in members if ended[member.name].status == "diverged"]
    if lost:
        log.warning(f"left out of {folder_of(folder)}, as they diverged: {', '.join(lost)}")
    kept = [_on_val(member) for member in members if member.name not in lost]
    begun = folder_of(folder) if flags.get("resume") else None
    more = load_data(kept, mixed_data=False, panel=panel, folder=begun)
    again = [_stopped(folder, member, ended[member.name], data, more) for member in kept]
    sweep(again, more, folder_of(folder), results.conclude, **flags)
    return folder_of(folder)


def _on_val(member: Member) -> Member:
    raw = member.config.model_dump(mode="json")
    raw["data"] |= {"train_on_val": True, "val_blocks": 1}
    raw["train"]["keep"] = "last"
    return member._replace(config=from_dict(raw, f"member {member.name}"))


def _stopped(
    folder: Path, member: Member, outcome: Ended, data: Mapping[str, Data], more: Mapping[str, Data]
) -> Member:
    """A member that stops after the optimizer steps of the epoch that validation chose."""
    raw, directory = member.config.model_dump(mode="json"), SweepDirectory(folder).member(member.name).path
    windows = tuple(len(prepared[member.name].starts["train"]) for prepared in (data, more))
    raw["train"] |= chosen_steps(member.config.train, directory, outcome.best_epoch, windows)
    return member._replace(config=from_dict(raw, f"member {member.name}"))
