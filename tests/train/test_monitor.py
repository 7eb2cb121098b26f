"""What is watched, by hand; each warning at what it warns of, and silent where nothing is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import HEALTHY

from tftjax.config.model import ModelConfig
from tftjax.errors import UserError
from tftjax.model.tft import TFTOutput
from tftjax.train import monitor

WATCHED = monitor.Watched(target_std=0.01, num_forecasts=1000)


def output(attention, selection):
    """A batch's output, of which only these weights count."""
    return TFTOutput(jnp.zeros((2, 2, 3)), jnp.float32(attention), jnp.float32(selection), None, None)


def entropies(attention, selection, **model):
    config = ModelConfig(**{"encoder_length": 3, "prediction_length": 2} | model)
    compiled = jax.jit(lambda a, s: monitor.entropies(output(a, s), config))
    return compiled(jnp.float32(attention), jnp.float32(selection))


def test_entropies_by_hand():
    # [B H P T] = [2 1 2 5]: the first prediction step sees four steps, the second all five.
    even = [[1 / 4] * 4 + [0], [1 / 5] * 5]
    sharp = [[0, 1, 0, 0, 0], [0.5, 0, 0.5, 0, 0]]
    selection = [[[0.5, 0.5, 0, 0]] * 3, [[1, 0, 0, 0], [1 / 4] * 4, [0, 0, 1, 0]]]  # [B E V] = [2 3 4]
    found = entropies([[even], [sharp]], selection)
    np.testing.assert_allclose(found["attention_entropy"], [1, np.log(2) / np.log(5) / 2], atol=1e-6)
    np.testing.assert_allclose(found["selection_entropy"], [1 / 2, 1 / 3], atol=1e-6)


def test_one_place_alone_is_even():
    # Under `strict` with an encoder of one step, the first prediction step sees one, the second two.
    attention = [[[[1, 0, 0], [1, 0, 0]], [[1, 0, 0], [0.5, 0.5, 0]]]]
    found = entropies(attention, [[[1.0]]], encoder_length=1, attention_mask="strict")
    np.testing.assert_allclose(found["attention_entropy"], [(1 + 0 + 1 + 1) / 4], atol=1e-6)
    np.testing.assert_allclose(found["selection_entropy"], [1], atol=1e-6)


def test_distinct_by_hand():
    # In 1e-6: 10.2 and 9.8 are one, 11.2 another, -3.1 twice, 0.
    values = 1e-6 * np.float32([[10.2, 9.8, 11.2], [-3.1, 0.0, -3.1]])
    assert jax.jit(monitor.distinct)(jnp.asarray(values)) == 4
    assert monitor.distinct(jnp.full((7, 3), 0.0123)) == 1
    assert monitor.distinct(jnp.zeros((1, 1))) == 1


def record(**changes):
    values = HEALTHY | {name.replace("__", "/"): value for name, value in changes.items()}
    return values | {"output_to_encoder_gradient": monitor.gradient_ratio(values)}


@pytest.mark.parametrize(
    ("output", "encoder", "ratio"),
    [
        (6.0, (1.0, 2.0, 2.0), 2.0),
        (1.0, (0.0, 0.0, 0.0), 1e12),
        (0.0, (0.0, 0.0, 0.0), 0.0),
        (0.0, (1.0,) * 3, 0.0),
    ],
)
def test_gradient_ratio_by_hand(output, encoder, ratio):
    parts = dict(zip(monitor.ENCODER_PARTS, encoder, strict=True)) | {"output": output}
    norms = {f"gradient_norm/{part}": value for part, value in parts.items()}
    assert monitor.gradient_ratio(norms) == pytest.approx(ratio)


def test_nothing_is_said_of_a_healthy_training():
    assert monitor.warnings(record(), WATCHED) == {}


@pytest.mark.parametrize(
    ("name", "at", "beyond", "words"),
    [
        ("flat", {"val__sigma": 1.001e-4}, {"val__sigma": 0.99e-4}, ["0.99 bp", "1%", "100 bp"]),
        (
            "few",
            {"val__distinct_forecasts": 50.0},
            {"val__distinct_forecasts": 49.0},
            ["49 distinct", "1000"],
        ),
        ("one_sign", {"val__share_positive": 0.989}, {"val__share_positive": 0.991}, ["99.1%", "positive"]),
        ("one_sign", {"val__share_positive": 0.011}, {"val__share_positive": 0.0}, ["0.0%", "positive"]),
        ("one_step", {"val__attention_entropy": 0.05}, {"val__attention_entropy": 0.049}, ["step", "4.9%"]),
        ("one_variable", {"val__selection_entropy": 0.05}, {"val__selection_entropy": 0.04}, ["4.0%"]),
        ("starved", {"gradient_norm__output": 173.0}, {"gradient_norm__output": 174.0}, ["100 times"]),
    ],
)
def test_a_warning_says_what_was_seen(name, at, beyond, words):
    assert monitor.warnings(record(**at), WATCHED) == {}
    found = monitor.warnings(record(**beyond), WATCHED)
    assert list(found) == [name]
    for word in words:
        assert word in found[name]


def test_collapse_shows_in_several():
    collapsed = record(val__sigma=0.0, val__distinct_forecasts=1.0, val__share_positive=1.0)
    assert list(monitor.warnings(collapsed, WATCHED)) == ["flat", "few", "one_sign"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"[1, 2]", "line 2: damaged: found "),
        (b'{"epoch": "2"}', 'line 2: damaged, key epoch: found "2"'),
        (b'{"loss": 0.1}', "line 2: damaged, key epoch: missing. Take the line out"),
        (b'{"epoch": 2, "loss": [1]}', "line 2: damaged, key loss.float: found .1."),
        (b'{"epoch": 2, "warnings": {"few": 3}}', "line 2: damaged, key warnings.few: found 3"),
        (b'{"epoch": 2, "\xff": 1}', "line 2: damaged .*utf-8"),
        (b"[" * 100_000, "line 2: damaged .*recursion"),
    ],
)
def test_a_damaged_line_of_the_history_is_named(line, message, tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"epoch": 1}\n' + line + b'\n{"epoch": 3}\n')
    with pytest.raises(UserError, match=rf"metrics\.jsonl, {message}"):
        monitor.read_history(tmp_path)


def test_history_without_the_half_line_of_a_kill(tmp_path):
    assert monitor.read_history(tmp_path) == []
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3, "lo')
    assert monitor.read_history(tmp_path) == [{"epoch": 1}, {"epoch": 2}]
