"""Figures of forecasts: what is drawn is what was given, in a file and on a page."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from plots.test_theme import drawn_in, png_size

from tftjax.evaluate.significance import wilson_interval
from tftjax.plots import forecasts as plots
from tftjax.plots import theme
from tftjax.plots.theme import NARROW_PAGE, PAGE, PNG

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def case(rows):
    rng = np.random.default_rng(5)
    forecast = np.sort(rng.normal(0, 0.01, (rows, len(QUANTILES))), axis=1)
    return {
        "dates": pd.bdate_range("2020-01-01", periods=rows, name="date"),
        "actual": rng.normal(0, 0.01, rows),
        "forecast": forecast,
        "quantiles": QUANTILES,
    }


@pytest.mark.parametrize("size", [PNG, PAGE, NARROW_PAGE])
def test_the_fan_chart_shows_the_last_year_in_percent(size):
    arrays = case(307)
    forecast = arrays["forecast"]
    (axes,) = drawn_in(size, plots.fan_chart, chart=plots.fan_data(**arrays)).axes
    median, actual, _ = axes.get_lines()
    np.testing.assert_allclose(actual.get_ydata(), 100 * arrays["actual"][-252:])
    np.testing.assert_allclose(median.get_ydata(), 100 * forecast[-252:, 2])
    wide, narrow = axes.collections
    edges = wide.get_paths()[0].vertices[:, 1]
    assert edges.max() == pytest.approx(100 * forecast[-252:, 4].max())
    assert edges.min() == pytest.approx(100 * forecast[-252:, 0].min())
    # What lies on top of each other is as dark as the legend says.
    keys = plots.fan_keys(QUANTILES)
    assert [key.label for key in keys] == ["50 %", "80 %", "median", "actual"]
    assert (keys[0].opacity, keys[1].opacity) == pytest.approx((0.5, 0.14))
    assert wide.get_alpha() == pytest.approx(0.14)
    assert 1 - (1 - wide.get_alpha()) * (1 - narrow.get_alpha()) == pytest.approx(0.5)


def calibration_case(rows):
    arrays = case(rows)
    forecasts = {"model": arrays["forecast"], "unconditional": arrays["forecast"] - 0.003}
    shares = {name: (arrays["actual"][:, None] <= own).mean(axis=0) for name, own in forecasts.items()}
    return {"shares": shares, "quantiles": QUANTILES, "count": rows}, forecasts, arrays["actual"]


@pytest.mark.parametrize("size", [PNG, PAGE, NARROW_PAGE])
def test_calibration_shows_the_shares_of_every_forecast(size):
    arrays, forecasts, actual = calibration_case(103)
    *left, right = drawn_in(size, plots.calibration, **arrays).axes
    assert len(left) == (size is not NARROW_PAGE)
    for number, own in enumerate(forecasts.values(), start=1):  # after the line of what is right
        share = [100 * sum(a <= f for a, f in zip(actual, own[:, q], strict=True)) / 103 for q in range(5)]
        for axes in left:
            np.testing.assert_allclose(axes.get_lines()[number].get_ydata(), share)
        found = right.get_lines()[number].get_ydata()
        np.testing.assert_allclose(found, np.array(share) - 100 * np.array(QUANTILES), atol=1e-12)
    assert len(right.collections) == 1  # the band is the model's
    labels = [key.label for key in plots.calibration_keys(list(forecasts), 103)]
    assert labels == ["model", "unconditional", "95 % band of the model"]
    *_, right = drawn_in(size, plots.calibration, **arrays | {"count": 0}).axes
    assert not right.collections


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_few_rows_can_be_drawn(tmp_path, rows):
    theme.save(tmp_path / "fan.png", plots.fan_drawing(plots.fan_data(**case(rows)), "few"))
    theme.save(
        tmp_path / "calibration.png", plots.calibration_drawing(**calibration_case(rows)[0], title="few")
    )
    assert png_size(tmp_path / "fan.png") == png_size(tmp_path / "calibration.png") == (1200, 700)


def test_the_words_of_a_page(monkeypatch):
    monkeypatch.setattr(theme, "drawn", lambda *_: '<svg xmlns="http://www.w3.org/2000/svg" />')
    rows = pd.bdate_range("2020-01-01", periods=4)
    forecast = np.tile([-0.01, 0.0, 0.01], (4, 1))
    actual = np.array([-0.02, 0.0, 0.005, 0.01])
    chart = plots.fan_data(rows, actual, forecast, (0.1, 0.5, 0.9))
    fan = plots.fan_picture({"b": chart, "c": chart._replace(x=rows[:1])}, ", first step")
    assert fan.title == "The last 4 forecasts, series b, first step: return, %"
    assert [*fan.charts] == ["b", "c"]
    assert fan.caption == "Of these 4 dates alone: 25 % outside of the 80 % interval."
    histograms = {"model": {"0-0.1": 0.1, "0.1-0.5": 0.2, "0.5-0.9": 0.5, "0.9-1": 0.2}}
    calibration = plots.calibration_picture(histograms, (0.1, 0.5, 0.9), 0)
    assert calibration.alt == "Farthest off: 30.0 % of actuals up to the 0.5 quantile."
    assert [key.label for key in calibration.legend] == ["model"]


def test_differences_are_percentages_of_the_baselines(monkeypatch):
    tables = []
    monkeypatch.setattr(plots, "differences", lambda figure, size, table: tables.append(table))
    test = {"difference": -1.0, "low": -1.5, "high": 0.5}
    found = plots.differences_picture({"a": test, "lossless": test}, {"a": 4.0, "lossless": 0.0})
    assert found.alt == "a: -25.00 %"
    assert tables[0].loc["a"].to_dict() == {"low": -37.5, "difference": -25.0, "high": 12.5}
    assert plots.differences_picture({"lossless": test}, {"lossless": 0.0}) is None


def test_a_difference_has_the_colour_of_what_it_says():
    rows = {"better": (-3, -2, -1), "open": (-1, 0, 1), "worse": (1, 2, 3)}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["low", "difference", "high"])
    (axes,) = drawn_in(PNG, plots.differences, table=table).axes
    colors = [
        line.get_color() for line in axes.get_lines()[1:-1:2]
    ]  # from the bottom up, each an interval and a dot
    assert colors == [theme.LIGHT[name] for name in ("red", "muted", "green")]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["worse", "open", "better"]


def test_skill_against_no_loss_is_undefined():
    losses = pd.DataFrame({"model": [1.0, 1.0, 3.0, 1.0], "other": [2.0, 2.0, 0.0, 0.0]})
    found = plots.skill_over_time(losses, "model", "other", 2)
    np.testing.assert_array_equal(found, [50.0, -100.0, np.nan])


def test_wilson_interval_by_hand():
    # 0 of 10: [0, z^2 / (10 + z^2)].  5 of 10: 0.5 -+ z sqrt(0.025 + z^2 / 400) / (1 + z^2 / 10).
    low, high = wilson_interval(np.array([0.0, 0.5, 1.0]), 10)
    np.testing.assert_allclose(low, [0.0, 0.236593, 0.722467], atol=1e-6)
    np.testing.assert_allclose(high, [0.277533, 0.763407, 1.0], atol=1e-6)


def test_nothing_global_is_used():
    code = "import sys, tftjax.plots.forecasts; sys.exit(len({'matplotlib.pyplot', 'jax'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
