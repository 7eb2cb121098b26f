"""Figures of a sweep on numbers by hand."""

import numpy as np
import pandas as pd
import pytest
from plots.test_theme import drawn_in

from tftjax.plots import sweeps
from tftjax.plots.theme import LIGHT, NARROW_PAGE, PAGE, PNG

CONFIGS = ["weak", "control", "strong"]  # as ranked
WEIGHTS = {"control": 0.0, "weak": 0.01, "strong": 0.1}


@pytest.fixture
def results():
    """Three configs of three seeds; the last seed of weak diverged."""
    table = pd.DataFrame(
        {
            "config": np.repeat(list(WEIGHTS), 3),
            "seed": [1, 2, 3] * 3,
            "loss.std_weight": np.repeat(list(WEIGHTS.values()), 3),
            "val/pinball": np.array([2.0, 2.4, 2.2, 1.9, 2.0, np.nan, 2.9, 2.9, 2.9]) * 1e-3,
            "test/pinball": np.array([3.0, 3.2, 3.1, 3.3, 3.5, np.nan, 1.0, 1.0, 1.0]) * 1e-3,
        }
    )
    return table.assign(**{"val/sigma": 1e-3, "test/sigma": 2e-3})


def means(axes):
    """Places of the filled dots, of the bottom up, and their colours."""
    dots = [line for line in axes.get_lines() if line.get_markersize() == 6 and line.get_marker() == "o"]
    places = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in dots]
    return places, {line.get_color() for line in dots}


@pytest.mark.parametrize(("size", "columns"), [(PNG, 3), (PAGE, 3), (NARROW_PAGE, 1)])
def test_metrics_by_config(results, size, columns):
    figure = drawn_in(size, sweeps.metrics_by_config, results=results, configs=CONFIGS)
    axes = [axes for axes in figure.axes if axes.get_visible()]
    assert axes[0].get_gridspec().ncols == columns
    titles = [own.get_title() + own.get_title(loc="left") for own in axes]
    assert titles == ["pinball, 1e-3, val", "pinball, 1e-3, test", "spread of the medians, bp"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == CONFIGS[::-1]  # weak on top
    places, colors = means(axes[0])
    np.testing.assert_allclose(places, [(2.9, 0), (2.2, 1), (1.95, 2)])
    assert colors == {LIGHT["blue"]}
    places, colors = means(axes[2])
    assert sorted({x for x, _ in places}) == pytest.approx([10, 20])
    assert colors == {LIGHT["blue"], LIGHT["orange"]}
    assert places[0][1] > places[1][1]  # validation above test


def test_response(results):
    curves = sweeps.response_curves(results)
    sigma, val, test = drawn_in(PNG, sweeps.response, curves=curves).axes
    np.testing.assert_allclose(val.get_lines()[0].get_xydata(), [(0, 2.2), (0.01, 1.95), (0.1, 2.9)])
    np.testing.assert_allclose(test.get_lines()[0].get_ydata(), [3.1, 3.4, 1.0])
    assert [tick.get_text() for tick in sigma.get_xticklabels()] == ["0", "0.01", "0.1"]
    assert drawn_in(NARROW_PAGE, sweeps.response, curves=curves).axes[0].get_gridspec().ncols == 1


def test_files(results, tmp_path):
    sweeps.draw(tmp_path, results, CONFIGS)
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.png", "response.png"}
    (tmp_path / "response.png").unlink()
    sweeps.draw(tmp_path, results.drop(columns="loss.std_weight"), CONFIGS)
    assert not (tmp_path / "response.png").exists()


def test_response_curves(results):
    (name,) = sweeps.response_curves(results)
    assert name == "weight of the std penalty"
    both = results.assign(**{"loss.mean_weight": [0, 0, 0, 0.01, 0.01, 0, 0.1, 0.5, 0]})
    weights = {name: rows["weight"].tolist() for name, rows in sweeps.response_curves(both).items()}
    assert weights == {
        "weight of the std penalty": [0, 0, 0, 0.01, 0.1],
        "weight of both": [0, 0, 0, 0.01, 0.01, 0.1],
    }
    assert sweeps.response_curves(results.assign(**{"train.learning_rate": 0.1})) == {}
    assert sweeps.response_curves(results.drop(columns="loss.std_weight")) == {}
    assert sweeps.response_curves(results[results["loss.std_weight"] < 0.05]) == {}
