"""What is searched, and its directory: made, found again, joined by several processes."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tftjax import files
from tftjax.config.loading import Config, changed_keys, from_dict
from tftjax.config.section import show
from tftjax.data.panel import Panel
from tftjax.errors import UserError, both
from tftjax.storage import directories
from tftjax.storage.directories import REMEDY, SearchDirectory
from tftjax.sweep.tune.space import Space

WITHOUT_EFFECT = ("name", "notes", "train.checkpoint_every")  # and the section evaluation: on the trials


class Search(NamedTuple):
    """What is searched; what makes it another search, but for the directory.

    Attributes:
      config: the config that trials differ from by values of the space.
      space: see `sweep.plan.check_space`.
      seeds: seeds of each trial.
      sampler: name in `SAMPLERS`.
      pruner: name in `PRUNERS`.
    """

    config: Config
    space: Space
    seeds: int
    sampler: str
    pruner: str


def as_record(search: Search, panel: Panel) -> dict[str, Any]:
    """The search as JSON."""
    config = search.config.model_dump(mode="json")
    return search._asdict() | {"config": config, "data": panel.fingerprint}


@contextlib.contextmanager
def take_part(
    directory: SearchDirectory, record: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> Iterator[list[int]]:
    """Makes a search's directory, or finds the one to go on with; keeps a place in it for this process.

    Args:
      record: the search.
    Returns:
      A context; its value has the number of this process, then those of processes that have ended, whose
      trials are this one's now.
    Raises:
      UserError: see `directories.claim`; another search is there, or none to go on with.
    """

    def write() -> None:
        files.write_json(directory.settings, dict(record))

    def check() -> None:
        if difference := first_difference(files.read_json(directory.settings, REMEDY), record):
            raise UserError(
                f"{directory.path}: is a search over something else: {difference}. Go on with the command"
                f" that began it, or search under another {both('--name')}."
            )

    if resume:
        if not directories.is_begun(directory):
            raise UserError(
                f"{directory.path}: no search to go on with. Leave {both('--resume')} out to begin one, or"
                f" correct {directories.PLACE}."
            )
        directories.make_joint(directory, write, check)
    else:
        with directories.claim(directory, write, check, overwrite=overwrite):
            pass
    with contextlib.ExitStack() as locks:
        known = sorted(int(made.path.name) for made in directory.runs() if made.path.name.isdecimal())
        free = [number for number in known if _keep(directory, number, locks)]
        if not free:
            free = [next(n for n in itertools.count(len(known)) if _keep(directory, n, locks))]
        yield free


def _keep(directory: SearchDirectory, number: int, locks: contextlib.ExitStack) -> bool:
    """Keeps a process's folder; returns whether no other process has it."""
    process = directory.process(number)
    directories.make(process.path)
    try:
        locks.enter_context(directories.lock(process))
    except UserError:
        return False
    return True


def first_difference(stored: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """The first thing in which a search differs from a directory's, in words; empty if in nothing."""
    before, now = (from_dict(dict(part["config"]), "the search's config") for part in (stored, record))
    for key, old, new in changed_keys(before, now):
        if key not in WITHOUT_EFFECT and not key.startswith("evaluation."):
            return f"{key} is {show(old)} there, {show(new)} here"
    for key in dict.fromkeys([*stored["space"], *record["space"]]):
        old, new = stored["space"].get(key), record["space"].get(key)
        if old != new:
            return f"{key} in the space is {show(old)} there, {show(new)} here"
    for name in ("seeds", "sampler", "pruner", "data"):
        if stored[name] != record[name]:
            words = "the data's fingerprint" if name == "data" else name
            return f"{words} is {show(stored[name])} there, {show(record[name])} here"
    return ""
