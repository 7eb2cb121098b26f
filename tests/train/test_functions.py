"""Functions that a user hands in: in the loss, the head, the metrics and the baselines of a real training."""

import dataclasses
import functools
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from tiny import begin_run, make_rows, write_config

from tftjax.config.functions import Functions, check_at_hand, record, source_hash
from tftjax.config.loading import from_dict, load
from tftjax.data.loading import load_panel
from tftjax.data.prepared import prepare
from tftjax.errors import UserError
from tftjax.evaluate.evaluation import evaluate
from tftjax.storage.runs import identity, open_run
from tftjax.train.run import fit, refit, train

pytestmark = pytest.mark.usefixtures("quick_evaluation")


def width(forecast, quantiles, hyperparameters):
    return jnp.mean(jnp.square(forecast[..., -1] - forecast[..., 0]))


def high_head(raw, quantiles):
    return raw + 1.0


def largest_error(forecast, target, quantiles):
    return {"median": np.abs(target - forecast[..., quantiles.index(0.5)]).max()}


def zero(task):
    return np.zeros((*task.target_rows.shape, len(task.quantiles)))


OWN = Functions({"width": width}, {"largest_error": largest_error}, {"zero": zero}, {"high": high_head})


def config_with(tmp_path, functions, **changes):
    base = load(write_config(tmp_path, make_rows(), **changes))
    return base.model_copy(update={"functions": record(functions)})


@pytest.mark.slow
def test_a_run_with_own_functions_opens_without_them_and_asks_for_them_by_name(tmp_path, caplog):
    config = config_with(tmp_path, OWN, loss={"own_weights": {"width": 3.0}}, train={"max_epochs": 2})
    metrics = train(config, tmp_path / "run", quiet=True, functions=OWN)
    test = metrics["test"]
    assert test["largest_error"]["median"] > 0
    actual = load_panel(config.data).frame["SP500_Returns"].to_numpy()
    assert "zero" in test["baselines"]
    assert test["baselines"]["zero"]["mae"] <= np.abs(actual).max()
    assert test["tests"]["diebold_mariano"]["zero"]

    run = open_run(tmp_path / "run", functions=OWN)
    assert evaluate(run).metrics == metrics
    bare = open_run(tmp_path / "run")
    np.testing.assert_array_equal(bare.parameters["output"]["kernel"], run.parameters["output"]["kernel"])
    with pytest.raises(UserError, match="head: the run was made with a function named 'high'"):
        evaluate(bare)
    with pytest.raises(UserError, match="penalties: the run was made with a function named 'width'"):
        train(config, tmp_path / "run", quiet=True, resume=True)
    half = OWN._replace(metrics={}, baselines={})
    path = tmp_path / "run" / "evaluation" / "metrics.json"
    before = path.read_bytes()
    for part in (half, OWN._replace(baselines={})):
        with pytest.raises(UserError, match=r"metrics\.json: has numbers of .* would lose"):
            evaluate(open_run(tmp_path / "run", functions=part))
    assert path.read_bytes() == before
    path.unlink()
    evaluated = evaluate(open_run(tmp_path / "run", functions=half)).metrics["test"]
    assert "largest_error" not in evaluated
    assert "zero" not in evaluated["baselines"]
    assert "left out metrics that were handed in at training: largest_error" in caplog.text


@pytest.mark.slow
def test_an_own_penalty_with_weight_0_changes_no_bit_and_one_with_weight_does(tmp_path):
    own = Functions(penalties={"width": width})
    losses = {}
    for name, weight in (("without", None), ("zero", 0.0), ("heavy", 1e4)):
        changes = {} if weight is None else {"loss": {"own_weights": {"width": weight}}}
        functions = Functions() if weight is None else own
        config = config_with(tmp_path, functions, train={"max_epochs": 1}, **changes)
        data = prepare(load_panel(config.data), config)
        begin_run(tmp_path / name, config, data.panel)
        fit(config, data, tmp_path / name, quiet=True, functions=functions)  # without the evaluation
        kernel = open_run(tmp_path / name).parameters["output"]["kernel"]
        losses[name] = np.asarray(kernel)
    np.testing.assert_array_equal(losses["without"], losses["zero"])
    assert np.abs(losses["without"] - losses["heavy"]).max() > 1e-4


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        (
            Functions(penalties={"wide": lambda f, q, h: f[..., 0]}),
            r"penalties: 'wide' returned shape \(64, 1\)",
        ),
        (
            Functions(penalties={"yes": lambda f, q, h: 0.0 if f.mean() > 0 else 1.0}),
            "'yes' needs a value in Python",
        ),
        (Functions(penalties={"none": lambda f, q, h: None}), "'none' returned shape NoneType"),
        (Functions(head={"cut": lambda raw, q: raw[:-1]}), "head: 'cut' returned shape"),
        (
            Functions(penalties={"two": lambda f, q, h: f @ f}),
            r"'two' is called as f\(forecast, quantiles, hyperparameters\) and failed \(TypeError",
        ),
        (Functions(penalties={"std": lambda f, q, h: f.mean()}), "penalties: 'std' is taken"),
        (Functions(metrics={"pinball": lambda f, t, q: 1.0}), "metrics: 'pinball' is taken"),
        (Functions(metrics={"tests": lambda f, t, q: 1.0}), "metrics: 'tests' is taken"),
        (Functions(baselines={"garch": zero}), "baselines: 'garch' is taken"),
        (Functions(baselines={"model": zero}), "baselines: 'model' is taken"),
        (
            Functions(head={"float": lambda raw, q: raw * float(raw[0, 0, 0])}),
            "'float' needs a value in Python",
        ),
    ],
)
def test_a_function_that_a_program_cannot_hold_is_named(tmp_path, functions, message):
    config = config_with(tmp_path, functions, train={"batch_size": 64})
    with pytest.raises(UserError, match=message):
        train(config, tmp_path / "run", quiet=True, functions=functions)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("functions", "message"),
    [
        (Functions(metrics={"text": lambda f, t, q: "good"}), "metrics: 'text' returned 'good'"),
        (
            Functions(metrics={"half": lambda f, t, q: 1 / 0}),
            r"'half' is called as f\(forecast, target, quantiles\) and failed \(ZeroDivisionError",
        ),
        (
            Functions(baselines={"raises": lambda task: task.nothing}),
            r"'raises' is called as f\(task\) and failed \(AttributeError",
        ),
        (
            Functions(baselines={"short": lambda task: np.zeros(3)}),
            r"baselines: 'short' returned shape \(3,\)",
        ),
    ],
)
def test_a_metric_or_baseline_of_another_shape_is_named(tmp_path, functions, message):
    config = config_with(tmp_path, functions, train={"max_epochs": 1})
    with pytest.raises(UserError, match=message):
        train(config, tmp_path / "run", quiet=True, functions=functions)


def test_other_functions_than_the_run_s_are_refused():
    recorded = record(OWN)
    check_at_hand(recorded, OWN)
    check_at_hand(recorded, Functions())
    with pytest.raises(UserError, match=r"has no function 'largest_eror'.* Did you mean 'largest_error'"):
        check_at_hand(recorded, Functions(metrics={"largest_eror": largest_error}))
    with pytest.raises(UserError, match="the source of 'width' is not the one"):
        check_at_hand(recorded, Functions(penalties={"width": high_head}))
    with pytest.raises(UserError, match="metrics: 'mae' is 3, expected a function"):
        record(Functions(metrics={"mae": 3}))
    for kind, function in (("metrics", zero), ("baselines", width), ("head", width), ("penalties", zero)):
        with pytest.raises(UserError, match=rf"{kind}: 'a' is called as f\("):
            record(Functions(**{kind: {"a": function}}))
    record(Functions(metrics={"a": lambda *arguments: 0.0, "b": max}))


@pytest.mark.slow
def test_metrics_and_baselines_have_no_part_in_a_resumed_training(tmp_path):
    """Those of a broken metric's run are changed, and those of a whole one."""
    config = config_with(tmp_path, Functions(), train={"max_epochs": 1})

    def go_on(own):
        again = config.model_copy(update={"functions": record(own)})
        return train(again, tmp_path / "run", quiet=True, functions=own, resume=True)

    with pytest.raises(UserError, match="ZeroDivisionError"):
        go_on(Functions(metrics={"a": lambda f, t, q: 1 / 0}))
    go_on(Functions(metrics={"a": largest_error}))
    metrics = go_on(OWN._replace(penalties={}, head={}))
    assert "largest_error" in metrics["test"]
    assert "a" not in metrics["test"]
    assert "zero" in metrics["test"]["baselines"]
    final = refit(open_run(tmp_path / "run"), tmp_path / "final", quiet=True)  # which has no metrics
    assert identity(final) == identity(dataclasses.replace(open_run(tmp_path / "run"), config=config))
    with pytest.raises(UserError, match=r"functions\.penalties: .*hand in the function"):
        go_on(Functions(penalties={"width": width}))


def test_the_hash_is_of_the_source_not_of_the_object():
    def make(offset):
        return eval(f"lambda x: x + {offset}")  # no source to read: the compiled code counts

    assert source_hash(make(1)) == source_hash(make(1))
    assert source_hash(make(1)) != source_hash(make(2))
    assert len(source_hash(np.sum)) == 64
    settings = {"f": lambda x: x + 1, "epochs": 3}, {"f": lambda x: x + 1, "epochs": 5}
    assert source_hash(settings[0]["f"]) == source_hash(settings[1]["f"])  # another line, the same lambda
    assert source_hash(settings[0]["f"]) != source_hash(lambda x: x + 2)

    class Narrow:
        def __call__(self, forecast, quantiles, hyperparameters):
            return 0.0

    assert source_hash(Narrow()) == source_hash(Narrow()) != source_hash(make)
    assert source_hash(np.add) != source_hash(np.multiply)
    assert source_hash(functools.partial(width, Narrow())) == source_hash(functools.partial(width, Narrow()))
    assert source_hash(functools.partial(width, 1)) != source_hash(functools.partial(width, 2))


def test_the_hash_of_code_without_source_is_the_same_in_every_process():
    program = (
        "from tftjax.config.functions import source_hash;"
        'print(source_hash(eval(\'lambda x: (lambda y: y in {"a", "b", "c"})(x)\')))'
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "123"
    }
    assert len(hashes) == 1


def test_a_config_with_functions_is_json():
    recorded = record(OWN)
    config = from_dict({"functions": recorded.model_dump(mode="json")}, "here")
    assert config.functions == recorded
    with pytest.raises(UserError, match=r"functions\.head"):
        from_dict({"functions": {"head": {"a": "0" * 64, "b": "1" * 64}}}, "here")
