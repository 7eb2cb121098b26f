"""Starts a run from another run's parameters, matched by path: `train.init_from`.

What was taken, what is new and what was left is written to the run's `init.json`.
"""

import datetime
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from tftjax.config.loading import Config, changed_keys, from_dict
from tftjax.data.encoding import Encoding, encoding_from_json
from tftjax.data.panel import ROLES, Panel, read_panel
from tftjax.data.prepared import Data
from tftjax.data.splits import Block, make_blocks
from tftjax.errors import UserError
from tftjax.model.parameters import Layout
from tftjax.storage import checkpoint, runs
from tftjax.storage.directories import RunDirectory

# Settings that give the numbers of a part of the model their meaning: where one differs, it begins anew.
_STALENESS = tuple(
    f"model.attention.staleness.{key}" for key in ("decay", "weight", "gradient_scale", "scale")
)
_REGIME = ("by", "column", "thresholds", "renormalise", "gradient_scale")
MEANINGS = {
    "output": ("model.quantiles", "model.quantile_head"),
    "attention_staleness": _STALENESS,
    "encoder_selection_staleness": _STALENESS,
    "attention_gates": tuple(f"model.attention.regime.{key}" for key in _REGIME),
}
SHOWN = 8  # paths of a list in a message; init.json has them all


class Start(NamedTuple):
    """The parameters that a run takes from another one; paths with slashes.

    Attributes:
      source: the other run's directory, as the config gives it.
      epoch: its best one, whose parameters these are.
      fingerprint: of its config.
      taken: arrays by path.
      new: parameters that it lacks, or that mean something else there: they are drawn by the seed.
      left: parameters of it that have no place here.
    """

    source: str
    epoch: int
    fingerprint: str
    taken: dict[str, np.ndarray]
    new: tuple[str, ...]
    left: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All but the values."""
        return self._asdict() | {"taken": list(self.taken), "new": list(self.new), "left": list(self.left)}

    def __str__(self) -> str:
        lists = {"taken": tuple(self.taken), "new": self.new, "left": self.left}
        counts = [f"{len(paths)} arrays {name}" for name, paths in lists.items()]
        lines = [f"starts from {self.source}, epoch {self.epoch}: {', '.join(counts)}"]
        for name in ("new", "left"):
            if lists[name]:
                lines.append(f"  {name}: {_shown(lists[name])}")
        return "\n".join(lines)


def read_start(config: Config, data: Data, layout: Layout) -> Start:
    """Reads the best parameters of the run `train.init_from`, and sorts them by what can be used.

    Args:
      config: of the run that begins; `train.init_from` is given.
      data: its data.
      layout: its parameters.
    Raises:
      UserError: no run, none that is trained, one on other columns or categories or on rows that this run
        is tested on, a parameter of another shape, or nothing that can be taken.
    """
    source = str(config.train.init_from)
    try:
        runs.read_config(Path(source))
        saved = checkpoint.restore_latest(RunDirectory(Path(source)).checkpoints)
    except UserError as error:
        raise UserError(f"train.init_from: {error}") from error
    if saved is None:
        raise UserError(f"train.init_from: {source} has no checkpoint yet. Train it first.")
    source_config = from_dict(saved.metadata["config"], f"{source}, checkpoint of epoch {saved.epoch}")
    _check_columns(source, saved.metadata, data)
    _check_days(source, source_config, data)
    changed = {key for key, _, _ in changed_keys(source_config, config)}
    held = dict(_leaves(saved.arrays["params"]))
    wanted = {"/".join(path): shape for path, shape in zip(layout.paths, layout.shapes, strict=True)}
    anew = {path for path in wanted if changed & set(MEANINGS.get(path.partition("/")[0], ()))}
    common = [path for path in wanted if path in held and path not in anew]
    clashes = [path for path in common if held[path].shape != wanted[path]]
    if clashes or not common:
        raise _unfit(
            source, [(path, held[path].shape, wanted[path]) for path in clashes], source_config, config
        )
    return Start(
        source=source,
        epoch=int(saved.arrays["state"]["best_epoch"]),
        fingerprint=saved.metadata["config_fingerprint"],
        taken={path: held[path] for path in common},
        new=tuple(path for path in wanted if path not in common),
        left=tuple(path for path in held if path not in common),
    )


def start_parameters(
    params: Float32[np.ndarray, " N"], start: Start, layout: Layout
) -> Float32[np.ndarray, " N"]:
    """Returns the vector with the taken parameters in their places."""
    vector, first = params.copy(), 0
    for path, shape in zip(layout.paths, layout.shapes, strict=True):
        stop = first + math.prod(shape)
        if "/".join(path) in start.taken:
            vector[first:stop] = start.taken["/".join(path)].ravel()
        first = stop
    return vector


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


def _shown(paths: tuple[str, ...]) -> str:
    return ", ".join(paths[:SHOWN]) + (" ..." if len(paths) > SHOWN else "")


def _check_columns(source: str, metadata: dict, data: Data) -> None:
    """A model's weights belong to positions of columns and categories: these must be the same."""
    for role in ROLES:
        source_columns, columns = metadata["columns"][role], list(getattr(data.panel, role))
        if source_columns != columns:
            raise UserError(
                f"train.init_from: {source} was trained on the {role} columns "
                f"{', '.join(source_columns) or 'none'}, this run has {', '.join(columns) or 'none'}. "
                "Give both the same columns in the same order."
            )
    encoding: Encoding = encoding_from_json(metadata["encoding"])
    for name, values in data.encoding.categories.items():
        if encoding.categories[name] != values:
            raise UserError(
                f"train.init_from: {source} knows the categories {encoding.categories[name]} of {name}, this "
                f"run has {values}. Give both the same train rows, or the same categories in them."
            )


def _check_days(source: str, source_config: Config, data: Data) -> None:
    """What a model was trained on, or its best epoch chosen by, is nothing to test it on."""
    lengths = source_config.model.encoder_length, source_config.model.prediction_length
    seen = max(_days(*make_blocks(read_panel(Path(source)), source_config.data, *lengths), "val"))
    tested = min(_days(data.panel, data.blocks, "test"))
    if seen >= tested:
        raise UserError(
            f"train.init_from: {source} has seen targets up to {seen}, and this run's test rows begin on "
            f"{tested}: it would forecast what it was trained on. Start from a run that ends before, or test "
            "later (data.split, data.split_dates)."
        )


def _days(panel: Panel, blocks: Sequence[Block], split: str) -> list[datetime.date]:
    """The first and last day of a split's target rows in each series that has any."""
    parts = [getattr(block.splits, split) for block in blocks]
    return [panel.frame.index[row].date() for part in parts if part for row in (part[0], part[-1])]


def _unfit(
    source: str, clashes: list[tuple[str, tuple, tuple]], source_config: Config, config: Config
) -> UserError:
    """What to say where no parameter, or not every one, can be taken."""
    lines = [f"\n  {path}: there {list(there)}, here {list(here)}" for path, there, here in clashes[:SHOWN]]
    misfit = f"{len(clashes)} parameters have another shape" if clashes else "no parameter has a place here"
    changed = [
        f"{key} ({old!r} there, {new!r} here)"
        for key, old, new in changed_keys(source_config, config)
        if key.startswith("model.")
    ]
    return UserError(
        f"train.init_from: {source} does not fit: {misfit}.{''.join(lines)}\n"
        f"Differing settings: {', '.join(changed) or 'none'}. Give both models the same sizes."
    )
