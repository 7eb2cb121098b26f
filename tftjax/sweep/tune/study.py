"""The study of a search: Optuna, which proposes trials, prunes them and keeps them in a file.

Optuna is imported when a search is asked for, and never before.
"""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import filelock

from tftjax.config.loading import setting_type
from tftjax.errors import UserError, both
from tftjax.storage.directories import SearchDirectory
from tftjax.sweep.tune.space import Space, Values

# By name, from Optuna and a seed. A grid proposes nothing itself: its points are given.
SAMPLERS: dict[str, Callable[[ModuleType, int], Any]] = {
    "tpe": lambda optuna, seed: optuna.samplers.TPESampler(seed=seed),
    "random": lambda optuna, seed: optuna.samplers.RandomSampler(seed=seed),
    "grid": lambda optuna, seed: optuna.samplers.RandomSampler(seed=seed),
}
NAME = "tftjax"  # of the only study in a file
LEAST_BEST = 5  # trials that importance is about
STARTUP_TRIALS = 4  # that are trained to the end before any is pruned


def median(optuna: ModuleType, max_epochs: int) -> Any:
    """Ends a trial whose best so far is worse than the median of the finished ones at its epoch."""
    return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=warmup(max_epochs))


def hyperband(optuna: ModuleType, max_epochs: int) -> Any:
    """Hyperband: successive halving by thirds, from several first epochs on."""
    return optuna.pruners.HyperbandPruner(warmup(max_epochs), max_epochs, 3)


def never(optuna: ModuleType, max_epochs: int) -> Any:
    """Trains every trial to its end."""
    return optuna.pruners.NopPruner()


# By name, from Optuna and the number of epochs.
PRUNERS: dict[str, Callable[[ModuleType, int], Any]] = {
    "median": median,
    "hyperband": hyperband,
    "none": never,
}


def warmup(max_epochs: int) -> int:
    """The first epoch after which a trial may be pruned.

    >>> warmup(5), warmup(40)
    (1, 4)
    """
    return max(1, max_epochs // 10)


class Study(NamedTuple):
    """An open study.

    Attributes:
      optuna: the module.
      study: Optuna's.
      sampler: name in `SAMPLERS`.
    """

    optuna: ModuleType
    study: Any
    sampler: str


class _Lock:
    """Optuna's interface of a lock; the system frees this one when a process is killed."""

    def __init__(self, path: Path):
        self._lock = filelock.FileLock(path)

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def import_optuna() -> ModuleType:
    """Imports Optuna.

    Raises:
      UserError: it is not installed; names the extra.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            "a search needs Optuna, which is not installed. Install it: pip install 'tftjax[tune]'."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def open_study(optuna: ModuleType, directory: SearchDirectory, sampler: str, pruner: Any) -> Study:
    """Opens the study in a search's directory, or makes it.

    Raises:
      UserError: the file is damaged, or cannot be written.
    """
    lock = _Lock(directory.storage_lock)
    try:
        with filelock.FileLock(directory.storage_lock):
            _cut_half_line(directory.storage)
        backend = optuna.storages.journal.JournalFileBackend(str(directory.storage), lock)
        storage = optuna.storages.JournalStorage(backend)
        if not storage.get_all_studies():
            optuna.create_study(storage=storage, study_name=NAME, direction="minimize")
        study = optuna.load_study(storage=storage, study_name=NAME, pruner=pruner)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{directory.storage}: cannot be used ({error}). Bring a copy back, or search under another"
            f" {both('--name')}."
        ) from error
    return Study(optuna, study, sampler)


def _cut_half_line(path: Path) -> None:
    """Cuts off the line that a kill left half written: after another one the file could not be read."""
    if not path.is_file():
        return
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def ask(study: Study, space: Space, fixed: Values, seed: int) -> Any:
    """A new trial with a value of every key in `params`.

    Args:
      fixed: values by key that are not the sampler's to choose.
      seed: of the sampler, another one for every trial.
    """
    samplers = study.optuna.samplers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PartialFixedSampler is called experimental
        base = SAMPLERS[study.sampler](study.optuna, seed)
        study.study.sampler = samplers.PartialFixedSampler(fixed, base)
        trial = study.study.ask()
        for key, range_ in space.items():
            _suggest(trial, key, range_)
    return trial


def _suggest(trial: Any, key: str, range_: Mapping[str, Any]) -> Any:
    """Draws a key's value: a number, or the JSON of a choice."""
    if "choices" in range_:
        return trial.suggest_categorical(key, [json.dumps(choice) for choice in range_["choices"]])
    bounds = range_["low"], range_["high"]
    if setting_type(key) is int:
        return trial.suggest_int(key, *bounds, log=range_.get("log", False))
    return trial.suggest_float(key, *bounds, log=range_.get("log", False))


def running(study: Study) -> list[Any]:
    """The trials that no process has finished, each as Optuna's `Trial`."""
    states = (study.optuna.trial.TrialState.RUNNING,)
    frozen = study.study.get_trials(deepcopy=False, states=states)
    return [study.optuna.trial.Trial(study.study, trial._trial_id) for trial in frozen]


def is_pruned(trial: Any, epoch: int, loss: float) -> bool:
    """Reports a trial's loss after an epoch; returns whether it should end.

    An epoch that was reported before a kill, and is trained again, is not reported twice; nor is a trial
    judged before it is again where it was.
    """
    reported = max(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values, default=0)
    if epoch > reported:
        trial.report(loss, epoch)
    return epoch >= reported and bool(trial.should_prune())


def importance(study: Study) -> dict[str, float]:
    """The importance of each key for being among the best trials compared; adds up to 1.

    By PED-ANOVA, which needs no further library, of the best tenth but at least LEAST_BEST. Optuna counts
    complete trials only; pruned ones count here too, by their last loss: they are the poor end of the range.
    Empty if fewer than twice LEAST_BEST trials were compared.
    """
    optuna, states = study.optuna, study.optuna.trial.TrialState
    trials = study.study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))
    if len(trials) < 2 * LEAST_BEST:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        copy = optuna.create_study(direction="minimize")
        for trial in trials:
            copy.add_trial(
                optuna.trial.create_trial(
                    params=trial.params, distributions=trial.distributions, value=trial.value
                )
            )
        quantile = max(0.1, LEAST_BEST / len(trials))
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile)
        return optuna.importance.get_param_importances(copy, evaluator=evaluator)
