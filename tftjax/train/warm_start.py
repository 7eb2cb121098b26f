"""Start of a run from another run's parameters, matched by path: `train.init_from`.

The run's `init.json` lists the parameters that were taken, the new ones and those left.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from tftjax.config.loading import Config, changed_keys, from_dict
from tftjax.data.encoding import encode_categories, encoding_from_json
from tftjax.data.panel import ROLES, read_panel
from tftjax.data.prepared import Data, target_days
from tftjax.data.raw.cells import categories
from tftjax.data.splits import make_blocks
from tftjax.errors import UserError, listed
from tftjax.model.parameters import Layout
from tftjax.model.tft import CORRECTION
from tftjax.storage import checkpoint, runs
from tftjax.storage.directories import RunDirectory

# Settings that give a module's parameters their meaning: where one differs, the module begins anew.
_STALENESS = tuple(
    f"model.attention.staleness.{key}" for key in ("decay", "weight", "gradient_scale", "scale")
)
_REGIME = ("by", "column", "thresholds", "renormalise", "gradient_scale")
MEANINGS = {
    "output": ("model.quantiles", "model.quantile_head"),
    CORRECTION: ("model.quantiles", "model.quantile_head"),
    "attention_staleness": _STALENESS,
    "encoder_selection_staleness": _STALENESS,
    "attention_gates": tuple(f"model.attention.regime.{key}" for key in _REGIME),
}
MOST_LISTED = 8  # paths in a message; init.json has them all


class Start(NamedTuple):
    """The parameters that a run takes from another one, the source; paths with slashes.

    Attributes:
      source: the source's directory, as the config gives it.
      epoch: the source's best epoch, which the parameters are of.
      fingerprint: the fingerprint of the source's config.
      taken: arrays taken, by path.
      new: parameters that the source lacks or gives another meaning: they are drawn by the seed.
      left: parameters of the source without a place in the run.
      unseen: by column, categories that the source does not know: they start as its unseen ones.
    """

    source: str
    epoch: int
    fingerprint: str
    taken: dict[str, np.ndarray]
    new: tuple[str, ...]
    left: tuple[str, ...]
    unseen: dict[str, list]

    def to_json(self) -> dict[str, Any]:
        """All but the values."""
        return self._asdict() | {"taken": list(self.taken), "new": list(self.new), "left": list(self.left)}

    def __str__(self) -> str:
        lists = {"taken": tuple(self.taken), "new": self.new, "left": self.left}
        counts = [f"{len(paths)} arrays {name}" for name, paths in lists.items()]
        lines = [f"starts from {self.source}, epoch {self.epoch}: {', '.join(counts)}"]
        for name in ("new", "left"):
            if lists[name]:
                first = ", ".join(lists[name][:MOST_LISTED])
                lines.append(f"  {name}: {first}{' ...' if len(lists[name]) > MOST_LISTED else ''}")
        if self.unseen:
            columns = [f"{listed(values)} of {name}" for name, values in self.unseen.items()]
            lines.append(f"  start as unseen categories: {'; '.join(columns)}")
        return "\n".join(lines)


def read_start(config: Config, data: Data, layout: Layout) -> Start:
    """Reads the best parameters of the run `train.init_from`, and sorts them by what can be used.

    Args:
      config: config of the run that begins, with `train.init_from`.
      layout: the run's parameters.
    Raises:
      UserError: no run, none that is trained, one on other columns or on rows that this run is tested on, a
        parameter of another shape, or nothing that can be taken.
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
    encoding = encoding_from_json(saved.metadata["encoding"])
    known = {name: _as_now(values) for name, values in encoding.categories.items()}
    held = _by_category(dict(_leaves(saved.arrays["params"])), known, data)
    shapes = {"/".join(path): shape for path, shape in zip(layout.paths, layout.shapes, strict=True)}
    unseen = {
        name: new
        for name, values in data.encoding.categories.items()
        if (new := [value for value in values if value not in known[name]])
    }
    anew = {path for path in shapes if changed & set(MEANINGS.get(path.partition("/")[0], ()))}
    common = [path for path in shapes if path in held and path not in anew]
    clashes = [(path, held[path].shape, shapes[path]) for path in common if held[path].shape != shapes[path]]
    if clashes or not common:
        raise _unfit(source, clashes, source_config, config)
    return Start(
        source=source,
        epoch=int(saved.arrays["state"]["best_epoch"]),
        fingerprint=saved.metadata["config_fingerprint"],
        taken={path: held[path] for path in common},
        new=tuple(path for path in shapes if path not in common),
        left=tuple(path for path in held if path not in common),
        unseen=unseen,
    )


def start_parameters(
    params: Float32[np.ndarray, " N"], start: Start, layout: Layout
) -> Float32[np.ndarray, " N"]:
    """The parameter vector with the taken parameters in their places."""
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


def _as_now(values: list) -> list:
    """A run's categories as they are written today: one of before wrote "3.0" where "3" is written.

    >>> _as_now(["1.0", "2.5", 3]), _as_now(["1", "1.0"])
    (['1', '2.5', 3], ['1', '1.0'])
    """
    now = [categories([value])[0] if isinstance(value, str) else value for value in values]
    return now if len({*now}) == len(now) else values


def _by_category(held: dict[str, np.ndarray], known: Mapping[str, list], data: Data) -> dict[str, np.ndarray]:
    """The source's parameters, the vectors of categories laid out as the run numbers its own.

    What the source does not know starts as what it had not seen in training.

    Args:
      known: the source's categories, by column.
    """
    laid_out = dict(held)
    for role in ("observed", "known", "static"):
        path, first, rows = f"embedding_{role}_categorical/embedding", 0, []
        for name in getattr(data.panel, f"{role}_categorical") if path in held else ():
            own = np.array(data.encoding.categories[name], object)
            rows += [first, *(first + encode_categories(own, known[name]))]
            first += len(known[name]) + 1
        laid_out |= {path: held[path][rows]} if rows else {}
    return laid_out


def _check_columns(source: str, metadata: dict, data: Data) -> None:
    """Refuses other columns: a model's weights belong to their positions."""
    for role in ROLES:
        source_columns, columns = metadata["columns"].get(role, []), list(getattr(data.panel, role))
        if source_columns != columns:
            raise UserError(
                f"train.init_from: {source} was trained on the {role} columns "
                f"{', '.join(source_columns) or 'none'}, this run has {', '.join(columns) or 'none'}. "
                "Give both the same columns in the same order."
            )


def _check_days(source: str, source_config: Config, data: Data) -> None:
    """Refuses test rows among the days that the source was trained on, or its best epoch chosen by."""
    lengths = source_config.model.fewest_rows, source_config.model.prediction_length
    source_blocks = make_blocks(read_panel(Path(source)), source_config.data, *lengths)
    seen = max(day for split in ("train", "val") for day in target_days(*source_blocks, split))
    tested = min(target_days(data.panel, data.blocks, "test"), default=None)
    if tested is not None and seen >= tested:
        raise UserError(
            f"train.init_from: {source} has seen targets up to {seen}, and this run's test rows begin on "
            f"{tested}: it would forecast what it was trained on. Start from a run that ends before, or test "
            "later (data.split, data.split_dates)."
        )


def _unfit(
    source: str, clashes: list[tuple[str, tuple, tuple]], source_config: Config, config: Config
) -> UserError:
    """The error where a parameter has another shape, or none can be taken."""
    lines = [f"\n  {path}: there {list(old)}, here {list(new)}" for path, old, new in clashes[:MOST_LISTED]]
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
