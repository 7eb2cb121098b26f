"""Parts of a sweep: shares, locks, what --conclude says of what is missing. Training is in test_run.py."""

import re

import pytest
from tiny import contents, make_rows, write_config

from tftjax.data.loading import load_panel
from tftjax.errors import UserError
from tftjax.storage.directories import SweepDirectory, lock
from tftjax.storage.runs import Ended
from tftjax.sweep.__main__ import main
from tftjax.sweep.members import claim, create_member, make_joint, read_ended, read_members, write_ended
from tftjax.sweep.parts import Part, gather, read_part
from tftjax.sweep.plan import make_plan

ENDED = Ended("finished", 5, 4)
NAMES = [f"tiny-s{seed}" for seed in range(42, 47)]


@pytest.fixture
def members(tmp_path):
    """Five seeds of a config."""
    return make_plan([write_config(tmp_path / "config", make_rows())], num_seeds=5)


def train(folder, members, part):
    """Leaves what a part does: the plan, its members, and how they ended."""
    make_joint(folder, members)
    panel = load_panel(members[0].config.data)
    own = part.share(members)
    for member in own:
        create_member(folder, member, panel, resume=True)
    write_ended(folder, part.label, {member.name: ENDED for member in own})


def test_shares():
    assert [Part(number, 3).share("abcdefg") for number in (1, 2, 3)] == [[*"adg"], [*"be"], [*"cf"]]
    assert Part(4, 4).share("abc") == []
    assert read_part("12/300") == Part(12, 300)


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "1/0", "a/2", "-1/2", "1/2/3", "1.0/2", ""])
def test_no_part(text):
    with pytest.raises(UserError, match=re.escape(f"--part {text}: expected I/N with I from 1 to N")):
        read_part(text)


def test_parts_make_one_plan(members, tmp_path):
    folder = tmp_path / "sweep"
    make_joint(folder, members)
    before = contents(folder)
    make_joint(folder, members)
    assert contents(folder) == before
    assert read_members(folder) == members
    with pytest.raises(UserError, match=r"with other members:\n  no longer there: tiny-s46"):
        make_joint(folder, members[:4])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("work")
    with pytest.raises(UserError, match="not a sweep"):
        make_joint(tmp_path / "mine", members)
    assert contents(tmp_path / "mine") == {"notes.txt": b"work"}


def test_a_part_waits_for_the_plan_and_not_for_other_parts(members, tmp_path, monkeypatch):
    folder = tmp_path / "sweep"
    train(folder, members, Part(1, 2))
    with lock(SweepDirectory(folder).member(NAMES[0])):  # as the first part trains
        make_joint(folder, members)
        with (
            pytest.raises(UserError, match="tiny-s42: another process is training there"),
            claim(folder, members, overwrite=True),
        ):
            pass
    monkeypatch.setattr("tftjax.storage.directories.JOINT_SECONDS", 0.1)
    with (
        claim(folder, members, resume=True),
        pytest.raises(UserError, match="another process is training there"),
    ):
        make_joint(folder, members)


def test_missing_parts_are_named(members, tmp_path):
    folder = tmp_path / "sweep"
    train(folder, members, Part(2, 3))
    with pytest.raises(UserError) as refused:
        gather([folder], "sweep")
    assert (
        "3 of 5 members have not ended, of part 1/3 (tiny-s42, tiny-s45); part 3/3 (tiny-s44). Train"
        in str(refused.value)
    )
    write_ended(folder, "1-of-2", {NAMES[0]: ENDED})  # of how many parts there are, the files do not agree
    with pytest.raises(UserError, match=r"2 of 5 members have not ended: tiny-s44, tiny-s45\. Train"):
        gather([folder], "sweep")


def test_folders_are_gathered_in_the_first(members, tmp_path):
    folders = [tmp_path / str(number) for number in (1, 2)]
    for number, folder in enumerate(folders, start=1):
        train(folder, members, Part(number, 2))
    second = contents(folders[1])
    assert gather(folders, "sweep") == members
    assert contents(folders[1]) == second
    assert set(read_ended(folders[0])) == set(NAMES)
    assert sorted(path.name for path in (folders[0] / "members").iterdir()) == NAMES
    before = contents(folders[0])
    assert gather(folders, "sweep") == members  # once more changes nothing
    assert contents(folders[0]) == before


def test_nothing_is_replaced_by_a_copy(members, tmp_path):
    folders = [tmp_path / str(number) for number in (1, 2)]
    for number, folder in enumerate(folders, start=1):
        train(folder, members, Part(number, 2))
    create_member(folders[0], members[1], load_panel(members[1].config.data), resume=False)
    before = contents(folders[0] / "members")
    with pytest.raises(UserError, match=r"1/members/tiny-s43: has not ended, while .*2/members/tiny-s43 has"):
        gather(folders, "sweep")
    assert contents(folders[0] / "members") == before


def test_folders_of_other_sweeps(members, tmp_path):
    train(tmp_path / "1", members, Part(1, 1))
    train(tmp_path / "2", members[:3], Part(1, 1))
    with pytest.raises(
        UserError, match=r"2: has other members than .*1:\n  no longer there: tiny-s45, tiny-s46"
    ):
        gather([tmp_path / "1", tmp_path / "2"], "sweep")
    with pytest.raises(
        UserError, match=r"found a sweep, expected a walk-forward\. Use tftjax sweep --conclude"
    ):
        gather([tmp_path / "1"], "walk-forward")
    with pytest.raises(UserError, match="not a sweep"):
        gather([tmp_path / "config"], "sweep")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: config"),
        (["a.json", "--conclude", "b"], "--conclude takes all from its folders: leave config out"),
        (["--seeds", "3", "--conclude", "b"], "leave --seeds out"),
        (["a.json", "--part", "1/2", "--overwrite"], "--part with --overwrite would remove"),
        (["a.json", "--actor-gpus", "0"], "--actor-gpus: of a cluster, so only with --on"),
        (["a.json", "--on", "ray", "--actors", "0"], "found '0', expected a whole number of at least 1"),
    ],
)
def test_flags_that_clash(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
