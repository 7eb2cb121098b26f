"""A sweep's directory: its plan, what --overwrite may remove of it, and how its members ended."""

import json

import pandas as pd
import pytest
from tiny import begin_run, contents, make_rows, write_config

from tftjax.config.loading import from_dict
from tftjax.data.loading import load_panel
from tftjax.data.panel import read_panel, with_rows
from tftjax.errors import UserError
from tftjax.storage import runs
from tftjax.storage.directories import RunDirectory, lock
from tftjax.sweep.members import claim, create_member, read_ended, read_members
from tftjax.sweep.plan import Member, make_plan
from tftjax.sweep.run import load_data


@pytest.fixture
def members(tmp_path_factory):
    """Two seeds of a config."""
    return make_plan([write_config(tmp_path_factory.mktemp("configs"), make_rows())], num_seeds=2)


def make(folder, members, **how):
    """Makes a sweep's directory, or finds the one to go on with."""
    with claim(folder, members, **how):
        pass


def test_half_a_plan_is_no_sweep_yet(members, tmp_path):
    (tmp_path / "sweep.json.new").write_text("{")
    make(tmp_path, members)
    assert read_members(tmp_path) == members


def test_a_member_s_panel_is_a_copy_of_another_s_that_has_the_same(members, tmp_path):
    panel = load_panel(members[0].config.data)
    first = create_member(tmp_path, members[0], panel, resume=False)
    second = create_member(tmp_path, members[1], panel, resume=False, like=first)
    for name in ("panel.csv", "panel.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    (first / "panel.csv").write_text("changed")
    assert read_panel(second).fingerprint == panel.fingerprint
    (first / "panel.csv").unlink()
    with pytest.raises(UserError, match=r"panel\.csv: cannot be written \(No such file"):
        create_member(tmp_path / "b", members[1], panel, resume=False, like=first)  # it is what is copied


def test_overwrite_takes_the_forecasts_of_ensembles_and_nothing_else(members, tmp_path):
    make(tmp_path, members)
    for kind in ("ensembles", "pooled"):
        (tmp_path / kind / "tiny" / "evaluation").mkdir(parents=True)
        (tmp_path / kind / "tiny" / "evaluation" / "metrics.json").write_text("{}")
    for mine in (tmp_path / "pooled" / "mine.txt", tmp_path / "ensembles" / "tiny" / "mine.txt"):
        mine.write_text("work")
        before = contents(tmp_path)
        with pytest.raises(UserError, match=r"mine\.txt"):
            make(tmp_path, members, overwrite=True)
        assert contents(tmp_path) == before
        mine.unlink()
    make(tmp_path, members, overwrite=True)
    assert set(contents(tmp_path)) == {"sweep.json", "lock"}


def test_overwrite_leaves_a_sweep_alone_of_which_a_member_is_trained(members, tmp_path):
    make(tmp_path, members)
    panel = load_panel(members[0].config.data)
    for member in members:
        create_member(tmp_path, member, panel, resume=False)
    before = contents(tmp_path)
    with (
        lock(RunDirectory(tmp_path / "members" / members[1].name)),
        pytest.raises(UserError, match=f"{members[1].name}: another process is training there"),
    ):
        make(tmp_path, members, overwrite=True)
    assert contents(tmp_path) == before
    make(tmp_path, members, overwrite=True)
    assert set(contents(tmp_path)) == {"sweep.json", "lock"}


def test_overwrite_removes_no_run_that_is_no_member(members, tmp_path):
    make(tmp_path, members)
    begin_run(tmp_path / "members" / "mine", members[0].config, load_panel(members[0].config.data))
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"sweep directories only.*found mine"):
        make(tmp_path, members, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["../x", "/etc", "..", "", "a/b"])
def test_a_member_lies_in_its_sweep(tmp_path, name):
    (tmp_path / "sweep.json").write_text(
        json.dumps({"members": [{"name": name, "group": "g", "config": {}}]})
    )
    with pytest.raises(UserError, match=r"sweep\.json: damaged \(.* is no name of a member"):
        read_members(tmp_path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"a": {"state": 1}}, "key a.status: missing"),
        ({"a": 3}, "key a: found 3"),
        ({"a": {"status": "finished", "epoch": "5", "best_epoch": 4}}, 'key a.epoch: found "5"'),
        ({"a": {"status": "finished", "epoch": 5, "best_epoch": 4, "late": 1}}, "key a.late: found 1"),
    ],
)
def test_damaged_list_of_the_ended(content, found, tmp_path):
    (tmp_path / "ended.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"ended\.json: damaged, {found}.*Delete it"):
        read_ended(tmp_path)


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({}, "members: damaged: found {}"),
        ([1], "members: damaged, key 0: found 1"),
        ([{"name": "a", "group": "g"}], "a: damaged: found null"),
        ([{"name": "a", "group": "g", "config": []}], r"a: damaged: found \[\]"),
        ([{"name": "a", "group": 1, "config": {}}], "a: damaged, key group: found 1"),
        ([{"name": "a", "config": {}}], "a: damaged, key group: missing"),
        ([{"name": "a", "group": "g", "config": {}, "fold": 2005}], "a: damaged, key fold: found 2005"),
    ],
)
def test_a_damaged_plan(members, found, tmp_path):
    (tmp_path / "sweep.json").write_text(json.dumps({"members": members}))
    with pytest.raises(UserError, match=rf"sweep\.json, {found}.*Bring a copy back"):
        read_members(tmp_path)


def test_a_sweep_of_before_is_gone_on_with_as_it_was_written(tmp_path):
    """Its categories were "1.0", which are "1" today: else every series would be a new one."""
    columns = {"id": "stock", "target": "ret"}
    rows = make_rows()[["SP500_Returns"]].rename(columns={"SP500_Returns": "ret"})
    frame = pd.concat([rows.assign(stock=stock) for stock in (1.0, 10.0)])
    config = from_dict({"data": {"dataset": "frame", "columns": columns}}, "test")
    member, now = Member("a", "a", config), load_panel(config.data, frame)
    before = with_rows(now, now.frame.assign(stock=now.frame["stock"] + ".0"), now.staleness)
    create_member(tmp_path, member, before, resume=False)
    for folder, expected in ((None, now), (tmp_path, before), (tmp_path / "none", now)):
        data = load_data([member], mixed_data=False, panel=now, folder=folder)["a"]
        assert data.whole.fingerprint == expected.fingerprint
        assert data.encoding.series == tuple(expected.frame["stock"].unique())
    again = runs.panel_to_go_on(tmp_path / "members" / "a", now)
    create_member(tmp_path, member, again, resume=True)
    with pytest.raises(UserError, match="with changed data"):
        create_member(tmp_path, member, now, resume=True)
