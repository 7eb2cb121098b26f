"""Ensembles: averages by hand, which seeds make one, what opens."""

import json

import numpy as np
import pandas as pd
import pytest

from tftjax.config.loading import Config
from tftjax.config.train import TrainConfig
from tftjax.errors import UserError
from tftjax.files import write_json
from tftjax.storage import runs
from tftjax.storage.runs import Ended
from tftjax.sweep.ensembles import average, average_tables, ensembles, open_runs
from tftjax.sweep.plan import Member


def test_the_average_is_that_of_each_level():
    forecasts = [np.array([[1.0, 2.0, 6.0]]), np.array([[3.0, 4.0, 5.0]]), np.array([[-1.0, 0.0, 1.0]])]
    np.testing.assert_array_equal(average(forecasts), [[1.0, 2.0, 4.0]])
    with pytest.raises(ValueError, match="shape"):
        average([np.zeros((2, 3)), np.zeros((2, 1))])


def test_the_average_of_tables_leaves_other_columns():
    days = pd.to_datetime(["2001-01-01", "2001-01-02"])
    tables = [
        pd.DataFrame({"series": ["a", "b"], "0.1": [low, 2 * low], "0.5": [0.0, high]}, index=days)
        for low, high in ((-1.0, 1.0), (-3.0, 5.0))
    ]
    expected = tables[0].assign(**{"0.1": [-2.0, -4.0], "0.5": [0.0, 3.0]})
    pd.testing.assert_frame_equal(average_tables(tables, ["0.1", "0.5"]), expected)
    pd.testing.assert_frame_equal(average_tables(tables[:1], ["0.1", "0.5"]), tables[0])


def member(group, seed, fold=""):
    name = "-".join(filter(None, (group, fold, f"s{seed}")))
    return Member(name, group, Config(name=name, train=TrainConfig(seed=seed)), fold)


MEMBERS = [member(g, s, f) for f in ("2005", "2006") for g in ("a", "b") for s in (1, 2, 3)]
LOST = ("a-2005-s2", "b-2006-s1", "b-2006-s2")
ENDED = {m.name: Ended("diverged" if m.name in LOST else "finished", 3, 2) for m in MEMBERS}


def test_seeds_of_a_config_and_fold_that_did_not_diverge():
    found = {key: [m.name for m in seeds] for key, seeds in ensembles(MEMBERS, ENDED).items()}
    assert found == {
        ("a", "2005"): ["a-2005-s1", "a-2005-s3"],
        ("b", "2005"): ["b-2005-s1", "b-2005-s2", "b-2005-s3"],
        ("a", "2006"): ["a-2006-s1", "a-2006-s2", "a-2006-s3"],
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A sweep of `MEMBERS` without their runs: opening one says which it was."""
    plan = [m._asdict() | {"config": m.config.model_dump(mode="json")} for m in MEMBERS]
    write_json(tmp_path / "sweep.json", {"members": plan})
    write_json(tmp_path / "ended.json", {name: how._asdict() for name, how in ENDED.items()})

    def open_run(directory, data=None, functions=None):
        run = object.__new__(runs.Run)
        vars(run).update(directory=directory, data=data or f"data of {directory.name}")
        return run

    monkeypatch.setattr(runs, "open_run", open_run)
    return tmp_path


def test_the_newest_fold_opens(folder, caplog):
    open_runs(folder, "a")
    assert caplog.messages == []  # in Python, where no command shows what is plain information
    caplog.set_level("INFO", "tftjax")
    opened = open_runs(folder, "a")
    assert [run.directory.name for run in opened] == ["a-2006-s1", "a-2006-s2", "a-2006-s3"]
    assert {run.data for run in opened} == {"data of a-2006-s1"}
    assert caplog.messages == ["a, ensemble of 3, fold 2006"]
    caplog.clear()
    assert len(open_runs(folder, "b")) == 1
    assert caplog.messages[1] == "left out, as they diverged or have not ended: b-2006-s1, b-2006-s2"


def test_what_does_not_open(folder):
    with pytest.raises(UserError, match=r"--config, in Python config=\): a or b"):
        open_runs(folder, None)
    with pytest.raises(UserError, match="--config, in Python config=c: unknown"):
        open_runs(folder, "c")
    (folder / "ended.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match="no seed of a has ended"):
        open_runs(folder, "a")
    with pytest.raises(UserError, match="Leave --config out"):
        open_runs(folder / "members", "a")
    assert len(open_runs(folder / "members", None)) == 1  # a run
