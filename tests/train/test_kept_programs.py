"""What keeps a training program apart from others on the disk: all that its trace looks at, and no more."""

import sys
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import tftjax
from tftjax.config.functions import Functions
from tftjax.config.hyperparameters import hyperparameters
from tftjax.config.loading import from_dict
from tftjax.data.panel import make_panel
from tftjax.data.prepared import cardinalities, prepare
from tftjax.model.forecast import compile_forecast
from tftjax.model.parameters import build_model, init_parameters, to_tree
from tftjax.runtime import device_mesh
from tftjax.runtime.fingerprint import fingerprint, walk
from tftjax.train.engine import compile_members, stack, stack_data
from tftjax.train.step import compile_epoch, init_state, make_program, train_data

MODEL = {"hidden_size": 4, "num_heads": 2, "encoder_length": 5, "quantiles": [0.1, 0.5, 0.9]}
# Of the model, the losses and the optimizer.
VARIANTS = {
    "router": {
        "model": {"attention": {"regime": {"by": "router"}}, "quantile_head": "monotone"},
        "train": {"ema_decay": 0.9, "freeze": ["output*"], "schedule": "warmup_cosine", "max_steps": 9},
    },
    "student": {
        "data": {"target_scale": "ewma"},
        "model": {"quantile_head": "student_t", "attention": {"staleness": {"mode": "attention"}}},
        "loss": {"objective": "likelihood", "unit": "scale", "scale": "standardized"},
        "train": {"half_life": 1.0, "lr_multipliers": {"lstm*": 0.1}},
    },
}


def training(variant, **sections):
    """A program and the arguments of an epoch."""
    raw = {"name": "tiny", "model": MODEL, "train": {"batch_size": 6}, "data": {}, "loss": {}}
    for name, section in (*VARIANTS[variant].items(), *sections.items()):
        raw[name] = raw.get(name, {}) | section if isinstance(section, dict) else section
    config = from_dict(raw, "the test's config")
    rng = np.random.default_rng(3)
    rows = pd.DataFrame(
        {"y": 0.01 * rng.normal(size=101), "x": rng.normal(size=101), "month": np.arange(101) % 3},
        index=pd.bdate_range("2020-01-01", periods=101),
    )
    ages = pd.DataFrame({"x": np.arange(101.0) % 7}, index=rows.index)
    panel = make_panel(rows, target="y", observed=("y", "x"), known_categorical=("month",), staleness=ages)
    data = prepare(panel, config)
    program = make_program(config, data, device_mesh(1))
    values = jax.tree.map(np.float32, hyperparameters(config))
    return program, (init_state(program, values, 3), values, train_data(data)), data


def members(program, arguments, data):
    """The same as a sweep's program of two members, with its arguments."""
    state, values, _ = arguments
    slots = stack([(state, values, np.int32(0), np.bool_(True))] * 2)
    return compile_members(program, device_mesh(), vectorised=False, emitters=False), (
        *slots,
        stack_data([data]),
    )


def forecast(program, arguments, data):
    """The forecasts' program, with its arguments."""
    model = build_model(program.config, *cardinalities(data.panel, data.encoding))
    tree = to_tree(init_parameters(program.layout, 3), program.layout)
    return compile_forecast(model, device_mesh()), (tree, data.series, data.starts["val"][:4])


def epoch(program, arguments, data):
    """A single run's program, with its arguments."""
    return compile_epoch(program, emitters=False), arguments


def functions_called(trace):
    """The code of this package's functions that run meanwhile."""
    package, called = str(Path(tftjax.__file__).parent), set()

    def note(frame, event, _):  # of calls alone, as it returns nothing that would follow their lines
        if frame.f_code.co_filename.startswith(package):
            called.add(frame.f_code)

    sys.settrace(note)
    try:
        trace()
    finally:
        sys.settrace(None)
    return called


# The compilation's own code: it runs meanwhile, and what it makes does not depend on what it says.
AROUND = {"runtime"}


@pytest.mark.parametrize(
    ("variant", "kind"),
    [("router", epoch), ("student", members), ("router", forecast), ("student", forecast)],
)
def test_the_key_is_of_all_code_that_is_traced(variant, kind):
    program, arguments = kind(*training(variant))
    jax.clear_caches()
    called = functions_called(lambda: program.lower(*arguments))
    _, known = walk(*program.decides)
    assert len(called) > 50
    unknown = {
        (Path(code.co_filename).relative_to(Path(tftjax.__file__).parent).as_posix(), code.co_qualname)
        for code in called - known
    }
    assert not {(file, name) for file, name in unknown if file.split("/")[0] not in AROUND}


SWEPT = {"learning_rate": 0.5, "max_grad_norm": 3.0, "patience": 77, "seed": 5}


def test_what_members_of_one_program_may_differ_in_is_no_part_of_the_key():
    """A swept float, a seed, a name, patience, what only judges; another size is."""

    def key(**sections):
        program, _, _ = training("router", **sections)
        return fingerprint(*compile_epoch(program, emitters=False).decides)

    same = [
        key(),
        key(train=SWEPT, name="another", notes="a note"),
        key(loss={"mean_weight": 3.0, "target_std": 0.02}),
        key(model={"dropout_rate": 0.7}),
        key(
            train={"checkpoint_every": 9},
            functions={"metrics": {"m": "0" * 64}, "baselines": {"b": "1" * 64}},
        ),
    ]
    assert len(set(same)) == 1
    program, _, _ = training("router")
    handed = Functions({}, {"m": max}, {"b": min}, {})  # a dict each, where the default is one for all
    judged = compile_epoch(program._replace(functions=handed), emitters=False)
    assert fingerprint(*judged.decides) == same[0]
    penalised = compile_epoch(program._replace(functions=Functions({"p": max})), emitters=False)
    assert fingerprint(*penalised.decides) != same[0]
    assert key(model={"hidden_size": 6}) != same[0]
    assert key(loss={"scale": "standardized"}) != same[0]
    assert key(train={"ema_decay": 0.5}) != same[0]
    assert key(functions={"penalties": {"p": "0" * 64}}) != same[0]
