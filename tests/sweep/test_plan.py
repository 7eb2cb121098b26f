"""Plans of sweeps: what is expanded, how it is named and grouped, and what is refused."""

import json

import pytest

from tftjax.errors import UserError
from tftjax.sweep.plan import make_plan, parse_axis, programs, read_space, varied_settings


@pytest.fixture
def paths(tmp_path):
    """Two configs in files."""
    for name, weight in (("plain", 0), ("pulled", 0.5)):
        content = {"loss": {"mean_weight": weight}, "train": {"seed": 7}}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return [tmp_path / "plain.json", tmp_path / "pulled.json"]


def names(members):
    return [member.name for member in members]


def test_configs_and_seeds(paths):
    members = make_plan(paths, num_seeds=2)
    assert names(members) == ["plain-s7", "plain-s8", "pulled-s7", "pulled-s8"]
    assert [member.group for member in members] == ["plain", "plain", "pulled", "pulled"]
    for member, seed, weight in zip(members, (7, 8, 7, 8), (0, 0, 0.5, 0.5), strict=True):
        config = member.config
        assert (config.name, config.train.seed, config.loss.mean_weight) == (member.name, seed, weight)
    assert varied_settings(members) == ["loss.mean_weight"]


def test_grid(paths):
    grid = ["loss.std_weight=0,1e-2", "model.quantiles=[0.1,0.5],[0.5,0.9]"]
    members = make_plan(paths[:1], grid=grid, overrides=["train.max_epochs=3"])
    assert names(members) == [
        "plain-std_weight-0-quantiles-0.1_0.5-s7",
        "plain-std_weight-0-quantiles-0.5_0.9-s7",
        "plain-std_weight-1e-2-quantiles-0.1_0.5-s7",
        "plain-std_weight-1e-2-quantiles-0.5_0.9-s7",
    ]
    assert [member.config.loss.std_weight for member in members] == [0, 0, 0.01, 0.01]
    assert members[1].config.model.quantiles == (0.5, 0.9)
    assert {member.config.train.max_epochs for member in members} == {3}
    assert varied_settings(members) == ["model.quantiles", "loss.std_weight"]


def test_programs_are_what_changes_shapes(paths):
    grid = ["model.hidden_size=8,16", "model.dropout_rate=0,0.3", "train.learning_rate=0.001,0.01"]
    members = make_plan(paths, grid=grid, num_seeds=3)
    first, second = programs(members, {member.name: {} for member in members})
    assert [len(first), len(second)] == [24, 24]
    assert {member.config.model.hidden_size for member in first} == {8}
    assert {member.config.loss.mean_weight for member in second} == {0, 0.5}


def test_sample(paths, tmp_path):
    space = tmp_path / "space.json"
    ranges = {
        "train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "model.encoder_length": {"low": 5, "high": 30},
        "loss.scale": {"choices": ["return", "standardized"]},
    }
    space.write_text(json.dumps(ranges))
    few, many = (make_plan(paths[:1], space=read_space(space), num_samples=n, num_seeds=2) for n in (3, 20))
    assert names(few) == [
        "plain-p1-s7",
        "plain-p1-s8",
        "plain-p2-s7",
        "plain-p2-s8",
        "plain-p3-s7",
        "plain-p3-s8",
    ]
    assert few == many[:6]
    rates = sorted({member.config.train.learning_rate for member in many})
    assert len(rates) == 20
    assert 1e-4 <= rates[0] < rates[-1] <= 1e-2
    assert 5e-4 < rates[10] < 2e-3  # even in the logarithm: the middle is near 1e-3
    assert all(5 <= member.config.model.encoder_length <= 30 for member in many)
    assert {member.config.loss.scale for member in many} == {"return", "standardized"}


def test_axis():
    assert parse_axis('data.scaling={"a":"none","b":"none"},{}') == (
        "data.scaling",
        ['{"a":"none","b":"none"}', "{}"],
    )
    assert parse_axis("train.patience=3") == ("train.patience", ["3"])


BAD = {
    "zero seeds": ({"num_seeds": 0}, "--seeds, in Python seeds=: found 0"),
    "seeds without end": ({"num_seeds": 99999999999}, "expected 1 to 10000"),
    "unknown key": (
        {"grid": ["loss.std_wieght=0,1"]},
        "unknown key 'loss.std_wieght'. Did you mean 'loss.std_w",
    ),
    "name": ({"grid": ["name=a,b"]}, "name is not for a sweep to vary; what sets it is --name"),
    "judging": ({"grid": ["evaluation.trading_cost=0,0.01"]}, "evaluation.trading_cost is not .* --set"),
    "seed": ({"grid": ["train.seed=1,2"]}, "train.seed is not .* --seeds"),
    "no values": ({"grid": ["loss.std_weight"]}, "expected KEY=VALUE,VALUE"),
    "empty value": ({"grid": ["loss.std_weight=0,,1"]}, "an empty value"),
    "value twice": ({"grid": ["loss.std_weight=0,0"]}, "stands twice"),
    "number twice": ({"grid": ["loss.std_weight=0.1,0,1e-1"]}, "stands twice"),
    "key twice": ({"grid": ["loss.std_weight=0", "loss.std_weight=1"]}, "loss.std_weight stands twice"),
    "value not allowed": (
        {"grid": ["loss.std_weight=0,-1"]},
        "loss.std_weight: found -1, expected .* at least 0",
    ),
    "data": ({"grid": ["data.target_scale=none,ewma"]}, 'differ in their data.*target_scale: "none", "ewma"'),
    "override": ({"overrides": ["train.epochs=3"]}, "unknown key"),
    "names alike": ({"grid": ["model.quantiles=[0.5,0.9],[0.5, 0.9]"]}, "look alike in a file name"),
    "too many seeds": ({"overrides": ["train.seed=2147483647"], "num_seeds": 2}, "found 2147483648"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_plans(case, paths):
    keywords, message = BAD[case]
    with pytest.raises(UserError, match=message):
        make_plan(paths, **keywords)


def test_two_configs_of_one_name(paths, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "plain.json").write_text("{}")
    with pytest.raises(UserError, match="name of another"):
        make_plan([paths[0], other / "plain.json"], overrides=["train.seed=1"])


def test_evaluation_settings_make_no_other_program(paths):
    members = [*make_plan(paths[:1]), *make_plan(paths[:1], overrides=["evaluation.quality_window=20"])]
    assert members[0].config != members[1].config
    assert len(programs(members, {member.name: {} for member in members})) == 1


def test_the_type_of_products_makes_another_program(paths):
    members = make_plan(paths[:1], grid=["model.dtype=float32,bfloat16"], num_seeds=2)
    first, second = programs(members, {member.name: {} for member in members})
    assert (first, second) == (members[:2], members[2:])


def test_other_data_can_be_allowed(paths):
    members = make_plan(paths[:1], grid=["data.target_scale=none,ewma,column:VIX"], mixed_data=True)
    shapes = {member.name: {"volatility": [9]} for member in members}
    shapes[members[0].name] = {"volatility": None}
    none, divided = programs(members, shapes)
    assert (none, divided) == (members[:1], members[1:])


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "expected an object of keys"),
        ({"train.lr": {"low": 0, "high": 1}}, "unknown key 'train.lr'"),
        ({"train.seed": {"low": 0, "high": 1}}, "--seeds"),
        ({"loss.std_weight": {"low": 0, "high": 1, "log": True}}, "above 0 if log"),
        ({"loss.std_weight": {"low": 1, "high": 0}}, "low below high"),
        ({"loss.std_weight": {"choices": []}}, "loss.std_weight: found"),
    ],
)
def test_bad_spaces(space, message, tmp_path):
    path = tmp_path / "space.json"
    path.write_text(json.dumps(space))
    with pytest.raises(UserError, match=message):
        read_space(path)
    with pytest.raises(UserError, match=r"no such file .*there are: space\.json.*path of a space"):
        read_space(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"loss.std_weight": {"choices": [0]}, "loss.std_weight": {"choices": [1]}}',
            "stands twice",
        ),
        ('{"loss.std_weight": {"low": 0, "high": NaN}}', "found NaN"),
        ('{"loss.std_weight": ', "not valid JSON at line 1"),
    ],
)
def test_spaces_that_are_not_json(text, message, tmp_path):
    (tmp_path / "space.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_space(tmp_path / "space.json")
