"""The configuration: what loads, what is refused, and what the messages say."""

import datetime
import json
import math
import subprocess
import sys
from pathlib import Path

import pydantic
import pytest

from tftjax.config import loading as config_module
from tftjax.config.__main__ import main
from tftjax.config.hyperparameters import Hyperparameters, hyperparameters
from tftjax.config.loading import (
    Config,
    all_keys,
    apply_overrides,
    changed_keys,
    fingerprint,
    from_dict,
    known_keys,
    load,
    setting_type,
    settings,
)
from tftjax.config.section import OTHER_WORDS
from tftjax.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"
NINE = {
    "control": (0, 0),
    "std_01": (0, 0.1),
    "std_02": (0, 0.2),
    "mean_01": (0.1, 0),
    "mean_02": (0.2, 0),
    "balanced_005": (0.05, 0.05),
    "balanced_01": (0.1, 0.1),
    "emphasize_std": (0.1, 0.2),
    "emphasize_mean": (0.2, 0.1),
}
VARIANTS = {
    "model.quantile_head",
    "loss.marginal_weight",
    "loss.directional_weight",
    "loss.directional_threshold",
    "loss.crossing_weight",
    "loss.correction_weight",
    "loss.unit",
    "loss.objective",
    "train.freeze",
    "train.lr_multipliers",
    "train.gradient_scales",
    "train.init_from",
}


def write(tmp_path: Path, text: str, name: str = "trial.json") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", NINE)
def test_the_nine_load_and_differ_only_in_the_penalty_weights(name):
    config = load(CONFIGS / f"{name}.json")
    assert (config.loss.mean_weight, config.loss.std_weight) == NINE[name]
    assert config.name == name
    assert config.notes
    control = load(CONFIGS / "control.json")
    allowed = {"name", "notes", "loss.mean_weight", "loss.std_weight"}
    assert {key for key, _, _ in changed_keys(control, config)} <= allowed


@pytest.mark.parametrize("name", NINE)
def test_the_nine_are_short_and_write_their_settings_out(name):
    """All but those of the variants, which they do without: these are at their defaults."""
    text = (CONFIGS / f"{name}.json").read_text()
    assert len(text.splitlines()) < 60
    raw = json.loads(text)
    written = {
        f"{key}.{leaf}" if isinstance(value, dict) else key
        for key, value in raw.items()
        for leaf in (value if isinstance(value, dict) else [None])
    }
    # How forecasts are judged, how long a gap may be and how a table of one's own is read came later, and are
    # no part of the experiments.
    left_out = {key for key in known_keys() if key not in written}
    later = (
        "evaluation.",
        "functions.",
        "loss.own_weights",
        "model.attention.",
        "data.max_gap",
    )
    later += (
        "data.wide",
        "data.target_transform",
        "data.calendar",
        "data.events",
        "data.final_fit",
        "data.volatility",
        "data.unseen",
        "data.series",
    )
    later += ("train.stop_after", "train.max_steps", "train.ema_decay", "train.keep", "train.half_life")
    later += ("train.warmup_share", "data.val_blocks", "data.train_on_val", "data.scale_features")
    later += ("train.static_dropout", "train.category_dropout", "train.known_dropout", "train.short_windows")
    later += ("model.min_encoder_length", "model.dtype", "data.missing_known", "loss.horizon_weights")
    assert {key for key in left_out if not key.startswith(later)} <= VARIANTS
    assert written <= set(known_keys())


def test_every_file_in_configs_loads():
    assert {path.stem for path in CONFIGS.glob("*.json")} >= set(NINE)
    for path in CONFIGS.glob("*.json"):
        config = load(path)
        assert config.name == path.stem
        assert config.notes


def test_control_holds_the_values_agreed_on():
    config = load(CONFIGS / "control.json")
    assert config.loss.target_mean == 0.0003
    assert config.loss.target_std == 0.01
    assert config.loss.scale == "return"
    assert config.model.quantiles == (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
    assert (config.model.hidden_size, config.model.num_heads, config.model.dropout_rate) == (16, 2, 0.15)
    assert (config.model.encoder_length, config.model.prediction_length) == (20, 1)
    train = config.train
    assert (train.batch_size, train.learning_rate, train.max_grad_norm) == (64, 0.0005, 0.1)
    assert (train.max_epochs, train.patience, train.seed) == (100, 10, 42)


def test_an_empty_file_gives_the_defaults_and_the_name_of_the_file(tmp_path):
    assert load(write(tmp_path, "{}", "a-b.1.json")) == Config(name="a-b.1")


def test_dates_and_lists_load_from_json_and_the_dump_loads_again(tmp_path):
    text = '{"data": {"start": "2001-02-03", "split": [0.5, 0.25, 0.25]}, "model": {"quantiles": [0.1, 0.5]}}'
    config = load(write(tmp_path, text))
    assert config.data.start == datetime.date(2001, 2, 3)
    assert config.data.split == (0.5, 0.25, 0.25)
    assert config.model.quantiles == (0.1, 0.5)
    assert from_dict(json.loads(json.dumps(config.model_dump(mode="json"))), "checkpoint") == config


def test_a_byte_order_mark_is_no_part_of_a_config(tmp_path):
    (tmp_path / "a.json").write_text('{"train": {"max_epochs": 3}}', encoding="utf-8-sig")
    assert load(tmp_path / "a.json").train.max_epochs == 3


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"train": {"init_from": "a\0b"}}, "train.init_from"),
        ({"notes": "\ud800"}, "notes"),
        ({"train": {"freeze": ["a", "\udfff"]}}, "train.freeze"),
        ({"data": {"scaling": {"\ud800": "none"}}}, "a key"),
    ],
)
def test_text_that_is_none_is_refused_by_its_key(raw, key):
    with pytest.raises(
        UserError, match=f"^here: found NUL or half a character in the text of {key}, expected"
    ):
        from_dict(raw, "here")


def test_a_config_is_frozen_and_hashable():
    config = Config()
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        config.train.seed = 7
    assert len({config, Config(), Config(name="other")}) == 2


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        ({"train": {"learning_rte": 1}}, ["train.learning_rte", "unknown", "'train.learning_rate'"]),
        ({"learning_rate": 1}, ["learning_rate: unknown", "'train.learning_rate'"]),
        ({"loss": {"batch_sise": 64}}, ["loss.batch_sise", "'train.batch_size'"]),
        ({"los": {}}, ["los: unknown key", "'loss'"]),
        ({"zzzzzz": 1}, ["zzzzzz: unknown key (value 1). The keys are listed by: tftjax config keys"]),
        ({"data": {"columns": {"target": "x", "observd": []}}}, ["'data.columns.observed'"]),
        ({"modle": {}}, ["Did you mean 'model'"]),
        ({"train": 5}, ["train: found 5", "an object"]),
        (
            {"train": {"batch_size": "64"}},
            ['train.batch_size: found "64"', "integer at least 1 and at most 65536"],
        ),
        ({"train": {"batch_size": 64.5}}, ["found 64.5", "integer"]),
        ({"train": {"patience": True}}, ["train.patience: found true", "integer"]),
        ({"train": {"seed": -1}}, ["train.seed: found -1", "at least 0 and at most 2147483647"]),
        ({"train": {"max_grad_norm": 0}}, ["train.max_grad_norm: found 0", "above 0"]),
        ({"train": {"optimizer": "sgd"}}, ['train.optimizer: found "sgd"', '"adam", "adamw"']),
        ({"train": {"weight_decay": 0.1}}, ["train.weight_decay: found 0.1", "adamw"]),
        ({"train": {"warmup_epochs": 2}}, ["train.warmup_epochs: found 2", "warmup_cosine"]),
        (
            {"train": {"schedule": "warmup_cosine", "warmup_epochs": 7, "max_epochs": 7}},
            ["train.warmup_epochs: found 7", "fewer than train.max_epochs (7)"],
        ),
        ({"loss": {"correction_weight": 0.1}}, ["loss: found", "expected correction_weight 0, or set"]),
        ({"train": {"warmup_share": 0.1}}, ["train.warmup_share: found 0.1", "warmup_cosine"]),
        (
            {"train": {"schedule": "warmup_cosine", "warmup_epochs": 2, "warmup_share": 0.1}},
            ["train.warmup_share: found 0.1", "set train.warmup_epochs (now 2) to 0"],
        ),
        ({"model": {"hidden_size": 15}}, ["model.num_heads: found 2", "divisor of model.hidden_size (15)"]),
        ({"model": {"dropout_rate": 1}}, ["model.dropout_rate: found 1", "at least 0 and at most 0.95"]),
        ({"model": {"quantiles": [0.1, 0.9]}}, ["model.quantiles: found [0.1, 0.9]", "0.5 among them"]),
        ({"model": {"quantiles": []}}, ["model.quantiles: found []", "0.5 among them"]),
        ({"model": {"quantiles": [0.5, 0.1]}}, ["model.quantiles", "strictly ascending"]),
        ({"model": {"quantiles": [0.5, 0.5]}}, ["model.quantiles", "strictly ascending"]),
        ({"model": {"quantiles": [0, 0.5]}}, ["model.quantiles[0]: found 0", "above 0"]),
        ({"model": {"quantiles": [0.5, 1]}}, ["model.quantiles[1]: found 1", "below 1"]),
        ({"data": {"split": [0.7, 0.2, 0.2]}}, ["data.split", "sum to 1 (these sum to 1.1)"]),
        ({"data": {"split": [0.5, 0.6, -0.1]}}, ["data.split[2]: found -0.1", "above 0"]),
        ({"data": {"split": [0.5, 0.5]}}, ["data.split"]),
        ({"data": {"start": "2020-13-01"}}, ['data.start: found "2020-13-01"', "YYYY-MM-DD"]),
        (
            {"data": {"start": 20200101}},
            ["data.start: found 20200101", "date in quotes, YYYY-MM-DD, or null"],
        ),
        (
            {"data": {"start": "2020-01-02", "end": "2020-01-02"}},
            ["data.end", "after data.start (2020-01-02)"],
        ),
        ({"data": {"wide": "yes"}}, ['data.wide: found "yes", expected true or false (a table with']),
        ({"data": {"return_unit": "bp"}}, ["data.return_unit", '"decimal", "percent"']),
        ({"loss": {"target_std": 0}}, ["loss.target_std: found 0", "above 0", "decimal"]),
        ({"loss": {"horizon_weights": {"2": 1}}}, ["prediction_length (1; found '2')"]),
        ({"loss": {"horizon_weights": {"1": 0}}}, ["a weight above 0: the loss would be 0"]),
        ({"loss": {"mean_weight": math.nan}}, ["loss.mean_weight: found NaN"]),
        ({"loss": {"mean_weight": math.inf}}, ["loss.mean_weight: found Infinity"]),
        ({"name": "../escape"}, ['name: found "../escape"', "letters, digits"]),
        ({"name": ".."}, ['name: found ".."']),
        ({"name": "a/b"}, ["name:"]),
        ({"name": "a\n"}, ["name:"]),
        ({"name": ""}, ["name:"]),
    ],
)
def test_a_bad_value_is_named_with_what_was_found_and_what_is_allowed(raw, parts):
    with pytest.raises(UserError) as caught:
        from_dict(raw, "some/file.json")
    message = str(caught.value)
    assert message.startswith("some/file.json: 1 mistake(s)")
    for part in parts:
        assert part in message
    assert "pydantic" not in message


def test_all_mistakes_are_listed_at_once(tmp_path):
    text = '{"train": {"seed": 1.5, "batch_size": 0}, "model": {"num_heads": 3}, "extra": 1}'
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "4 mistake(s)" in message
    for key in ("train.seed", "train.batch_size", "model.num_heads", "extra"):
        assert f"\n  {key}: " in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('{"loss": {"mean_weight": NaN}}', "found NaN"),
        ('{"loss": {"mean_weight": -Infinity}}', "found -Infinity"),
        ('{"loss": {"mean_weight": 1e999}}', "loss.mean_weight: found Infinity"),
        ('{"loss": {"mean_weight": 0, "mean_weight": 1}}', "'mean_weight' stands twice"),
        ('{"loss": {},\n "loss": {}}', "'loss' stands twice"),
        ('{\n  "name": "x",\n}', "line 3, column 1" if sys.version_info < (3, 13) else "line 2, column 14"),
        ("", "line 1, column 1"),
        ("[1, 2]", "found [1, 2] at the top"),
        ("train:\n  seed: 1\n", "looks like YAML or TOML"),
        ("# mine\n\n# and\n---\ntrain:\n  seed: 1\n", "looks like YAML or TOML"),
        ("[train]\nseed = 1\n", "looks like YAML or TOML"),
        ("// mine\n{}", "JSON has no comments"),
        ("# mine\n{}", "JSON has no comments"),
        ('{"train": {} // mine\n}', "JSON has no comments"),
        ('{"train": {}, /* mine */ "name": "x"}', "JSON has no comments"),
        ('{"name": "x",\n}', "JSON has no comma before a closing bracket"),
        ('{"model": {"quantiles": [0.5,]}}', "JSON has no comma before a closing bracket"),
        ("{'name': 'x'}", "JSON has double quotes"),
        ('{"data": {"final_fit": True}}', "JSON has true, false and null"),
    ],
)
def test_bad_json_is_refused_with_its_place(tmp_path, text, part):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load(path)
    assert part in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_folder_or_binary_file_is_a_user_error(tmp_path):
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for name, words in (
        ("absent.json", "no such file"),
        ("", "cannot be read"),
        ("binary.json", "cannot be read"),
    ):
        with pytest.raises(UserError, match=words):
            load(tmp_path / name)


def test_overrides_are_json_or_else_strings_and_leave_the_input_alone():
    raw = {"train": {"seed": 1}}
    overrides = [
        "train.max_epochs=5",
        "train.schedule=warmup_cosine",
        "notes=a=b",
        "data.split=[0.6,0.2,0.2]",
    ]
    result = apply_overrides(raw, [*overrides, "data.start=2020-01-02", "data.end=null"])
    assert raw == {"train": {"seed": 1}}
    assert result == {
        "train": {"seed": 1, "max_epochs": 5, "schedule": "warmup_cosine"},
        "notes": "a=b",
        "data": {"split": [0.6, 0.2, 0.2], "start": "2020-01-02", "end": None},
    }


def test_load_applies_overrides_in_order_and_names_them_in_errors(tmp_path):
    path = write(tmp_path, '{"train": {"seed": 1}}')
    assert load(path, ["train.seed=2", "train.seed=3", "name=other"]) == from_dict(
        {"name": "other", "train": {"seed": 3}}, "here"
    )
    with pytest.raises(
        UserError, match=r"trial\.json with train\.seed=NaN: .*\n  train\.seed: found \"NaN\""
    ):
        load(path, ["train.seed=NaN"])


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("train.max_epoch=5", ["'train.max_epoch=5'", "unknown key", "'train.max_epochs'"]),
        ("seed=5", ["'train.seed'"]),
        ("train=5", ["unknown key 'train'"]),
        ("train.seed", ["expected key=value"]),
    ],
)
def test_bad_overrides_are_refused(override, parts):
    with pytest.raises(UserError) as caught:
        apply_overrides({}, [override])
    for part in parts:
        assert part in str(caught.value)
    with pytest.raises(UserError, match="train is 5, expected an object"):
        apply_overrides({"train": 5}, ["train.seed=1"])


def test_changed_keys_gives_both_values():
    a = Config(name="x")
    b = from_dict({"name": "x", "train": {"seed": 7}, "data": {"start": "2020-01-02"}}, "b")
    assert changed_keys(a, b) == [("data.start", None, "2020-01-02"), ("train.seed", 42, 7)]
    assert changed_keys(a, a) == []


def test_fingerprint_depends_on_the_values_only():
    plain = from_dict({"loss": {"mean_weight": 0, "std_weight": 1}}, "a")
    assert fingerprint(plain) == fingerprint(
        from_dict({"loss": {"std_weight": 1.0, "mean_weight": 0.0}}, "b")
    )
    assert fingerprint(plain) != fingerprint(from_dict({"loss": {"std_weight": 1.5}}, "c"))
    assert len(fingerprint(plain)) == 64


def test_hyperparameters_are_the_floats_of_the_config():
    raw = {
        "model": {"dropout_rate": 0.3, "quantile_head": "correction"},
        "loss": {"mean_weight": 2, "std_weight": 3, "target_mean": 0.1, "target_std": 0.7}
        | {"marginal_weight": 4, "directional_weight": 5, "directional_threshold": 0.9, "crossing_weight": 6}
        | {"correction_weight": 7},
        "train": {"learning_rate": 0.02, "optimizer": "adamw", "weight_decay": 0.05, "max_grad_norm": 5},
    }
    values = hyperparameters(from_dict(raw, "x"))
    attention = {
        "staleness_weight": 0.5,
        "staleness_gradient_scale": 10.0,
        "staleness_scale": 1.0,
        "regime_low": math.inf,
        "regime_high": math.inf,
        "regime_gradient_scale": 10.0,
        "balance_weight": 0.0,
    }
    loss = {key: float(value) for key, value in raw["loss"].items()}
    train = {"learning_rate": 0.02, "weight_decay": 0.05, "max_grad_norm": 5.0}
    train |= {"category_dropout": 0.0, "short_windows": 0.0, "known_dropout": 0.0}
    assert values == Hyperparameters(dropout_rate=0.3, **loss, **train, **attention)
    assert all(type(value) is float for value in values)


def test_hyperparameters_of_nested_sections():
    raw = {
        "staleness": {"mode": "attention", "weight": 2, "gradient_scale": 0},
        "regime": {"by": "thresholds", "column": "VIX", "num_regimes": 3, "thresholds": [15, 25]},
    }
    values = hyperparameters(from_dict({"model": {"attention": raw}}, "x"))
    assert (values.staleness_weight, values.staleness_gradient_scale, values.staleness_scale) == (2, 0, 30)
    assert (values.regime_low, values.regime_high) == (15, 25)
    raw["regime"] = {"by": "thresholds", "column": "VIX", "thresholds": [20]}
    values = hyperparameters(from_dict({"model": {"attention": raw}}, "x"))
    assert (values.regime_low, values.regime_high) == (20, math.inf)


NEW_FLOAT = """
from typing import Annotated
from pydantic import Field
import tftjax.config.loss
from tftjax.config.section import Swept

class LossConfig(tftjax.config.loss.LossConfig):
    new_weight: Annotated[float, Swept] = Field(0.25, ge=0, le=1, description="new")
    new_scale: Annotated[float, Swept("other_name")] = Field(0.5, ge=0, le=1, description="new")
    unmarked: float = Field(0.75, ge=0, le=1, description="new")

tftjax.config.loss.LossConfig = LossConfig
from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import Config
from tftjax.config.hyperparameters import static_settings
values, shared = hyperparameters(Config()), static_settings(Config())
assert (values.new_weight, values.other_name, values.target_std) == (0.25, 0.5, 0.01)
assert not {"new_scale", "unmarked"} & set(values._fields)
assert shared["loss.unmarked"] == 0.75
assert not {"loss.new_weight", "loss.new_scale"} & set(shared)
"""


def test_a_swept_float_is_one_marked_field():
    """Marking a field is all that puts it into the record and lets members of one program differ in it."""
    ended = subprocess.run(
        [sys.executable, "-c", NEW_FLOAT], cwd=CONFIGS.parent, check=False, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr


ATTENTION = "model.attention."
BAD_ATTENTION = {
    "staleness without a mode": (
        {"staleness": {"weight": 1}},
        ["staleness: found", "mode to 'attention' or 'variable_selection'"],
    ),
    "unknown mode": ({"staleness": {"mode": "steps"}}, ["staleness.mode: found", '"variable_selection"']),
    "unknown decay": ({"staleness": {"mode": "attention", "decay": "cubic"}}, ["staleness.decay", '"log"']),
    "heads of variables": (
        {"staleness": {"mode": "variable_selection", "per_head": True}},
        ["staleness: found", "per_head false"],
    ),
    "negative weight": (
        {"staleness": {"mode": "attention", "weight": -1}},
        ["weight: found -1", "at least 0"],
    ),
    "scale": ({"staleness": {"mode": "attention", "scale": 0}}, ["staleness.scale: found 0", "above 0"]),
    "unknown key": ({"staleness": {"wieght": 1}}, ["staleness.wieght: unknown", "staleness.weight'"]),
    "regime without by": ({"regime": {"num_regimes": 3}}, ["regime: found", "by to 'thresholds'"]),
    "no thresholds": ({"regime": {"by": "thresholds", "column": "VIX"}}, ["thresholds", "one or two"]),
    "three thresholds": (
        {"regime": {"by": "thresholds", "column": "VIX", "num_regimes": 4, "thresholds": [1, 2, 3]}},
        ["thresholds: found [1", "one or two"],
    ),
    "out of order": (
        {"regime": {"by": "thresholds", "column": "VIX", "num_regimes": 3, "thresholds": [25, 15]}},
        ["regime.thresholds: found [25", "ascending order"],
    ),
    "gates of regimes that are not": (
        {"regime": {"by": "thresholds", "column": "VIX", "num_regimes": 3, "thresholds": [20]}},
        ["thresholds: found [20", "2 threshold(s)", "num_regimes 3", "2 regimes"],
    ),
    "no column": ({"regime": {"by": "thresholds", "thresholds": [20]}}, ["regime: found", "a column"]),
    "column of a router": ({"regime": {"by": "router", "column": "VIX"}}, ["regime: found", "only there"]),
    "thresholds of a router": (
        {"regime": {"by": "router", "thresholds": [1]}},
        ["thresholds: found [1", "[]"],
    ),
    "balance without router": (
        {"regime": {"by": "thresholds", "column": "VIX", "thresholds": [20], "balance_weight": 1}},
        ["regime: found", "balance_weight 0"],
    ),
}


@pytest.mark.parametrize("case", BAD_ATTENTION)
def test_bad_attention_settings(case):
    raw, parts = BAD_ATTENTION[case]
    with pytest.raises(UserError) as caught:
        from_dict({"model": {"attention": raw}}, "file.json")
    message = str(caught.value)
    assert f"\n  {ATTENTION}" in message
    assert "1 mistake(s)" in message
    for part in parts:
        assert part in message


def test_nested_settings_by_dotted_key():
    raw = apply_overrides({}, [f"{ATTENTION}staleness.decay=log", f"{ATTENTION}staleness.mode=attention"])
    assert raw == {"model": {"attention": {"staleness": {"decay": "log", "mode": "attention"}}}}
    config = from_dict(raw, "x")
    assert changed_keys(Config(), config) == [
        (f"{ATTENTION}staleness.mode", "none", "attention"),
        (f"{ATTENTION}staleness.decay", "linear", "log"),
    ]
    assert settings(config)[f"{ATTENTION}staleness.decay"] == "log"
    assert setting_type(f"{ATTENTION}regime.num_regimes") is int
    with pytest.raises(UserError, match=r"Did you mean 'model\.attention\.staleness\.decay'"):
        apply_overrides({}, ["staleness.decay=log"])
    with pytest.raises(UserError, match="attention is 5, expected an object"):
        apply_overrides({"model": {"attention": 5}}, [f"{ATTENTION}staleness.decay=log"])


def test_every_setting_has_a_description_and_every_number_has_both_bounds():
    schema = Config.model_json_schema()
    for section in schema["$defs"].values():
        for key, field in section["properties"].items():
            assert field["description"], key
            if field.get("type") in ("integer", "number"):
                assert {"minimum", "exclusiveMinimum"} & field.keys(), key
                assert {"maximum", "exclusiveMaximum"} & field.keys(), key


def test_the_schema_command_prints_json(capsys):
    assert main(["schema"]) == 0
    assert "train" in json.loads(capsys.readouterr().out)["properties"]


def test_config_does_not_import_jax():
    code = f"import sys; import {config_module.__name__}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CONFIGS.parent, check=False).returncode == 0


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("traget", "data.columns.target"),
        ("train.lr", "train.learning_rate"),
        ("hidden", "model.hidden_size"),
        ("epochs", "train.max_epochs"),
        ("dropout", "model.dropout_rate"),
        ("batch", "train.batch_size"),
        ("heads", "model.num_heads"),
        ("n_heads", "model.num_heads"),
        ("horizon", "model.prediction_length"),
        ("lookback", "model.encoder_length"),
        ("loss.batch_sise", "train.batch_size"),
        ("split_dates.val", "data.split_dates.val"),
    ],
)
def test_the_nearest_key_comes_first_and_at_most_three_are_named(key, meant):
    with pytest.raises(UserError) as caught:
        apply_overrides({}, [f"{key}=1"])
    message = str(caught.value)
    assert f"Did you mean '{meant}'" in message
    assert message.count("'") <= 2 * 5  # the override and its key, and three others
    assert len(message) < 250


def test_the_words_of_others_mean_keys_that_exist():
    assert {key for keys in OTHER_WORDS.values() for key in keys} <= set(all_keys())
    assert not set(OTHER_WORDS) & {key.rpartition(".")[2] for key in all_keys()}


def test_an_override_sets_a_key_in_a_section_that_is_null():
    raw = {"data": {"columns": None}}
    assert apply_overrides(raw, ["data.columns.target=ret"])["data"]["columns"] == {"target": "ret"}
    assert raw == {"data": {"columns": None}}
