"""Pictures: real PNGs of the promised size, the same bytes twice, and what is drawn is what was given."""

import struct
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from tftjax.evaluate.significance import wilson_interval
from tftjax.plots import forecasts as plots

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def case(rows):
    rng = np.random.default_rng(5)
    forecast = np.sort(rng.normal(0, 0.01, (rows, len(QUANTILES))), axis=1)
    return pd.bdate_range("2020-01-01", periods=rows, name="date"), rng.normal(0, 0.01, rows), forecast


def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


@pytest.fixture
def figures(monkeypatch):
    """The figures saved during a test."""
    saved, savefig = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        saved.append(figure)
        savefig(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def test_the_fan_chart_shows_the_last_year_in_percent(tmp_path, figures):
    dates, actual, forecast = case(307)
    plots.fan_chart(tmp_path / "fan.png", dates, actual, forecast, QUANTILES, "return of A&B, $5_")
    assert png_size(tmp_path / "fan.png") == (1200, 700)
    (axes,) = figures[0].axes
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    np.testing.assert_allclose(lines["actual"], 100 * actual[-252:])
    np.testing.assert_allclose(lines["median forecast"], 100 * forecast[-252:, 2])
    bands = {band.get_label(): band for band in axes.collections}
    assert list(bands) == ["80 % interval", "50 % interval"]
    edges = bands["80 % interval"].get_paths()[0].vertices[:, 1]
    assert edges.max() == pytest.approx(100 * forecast[-252:, 4].max())
    assert edges.min() == pytest.approx(100 * forecast[-252:, 0].min())
    # The wider interval is the paler one.
    assert sum(bands["80 % interval"].get_facecolor()[0]) > sum(bands["50 % interval"].get_facecolor()[0])


def test_calibration_shows_the_shares_of_every_forecast(tmp_path, figures):
    _, actual, forecast = case(103)
    forecasts = {"model": forecast, "unconditional": forecast - 0.003}
    shares = {name: (actual[:, None] <= given).mean(axis=0) for name, given in forecasts.items()}
    plots.calibration(tmp_path / "calibration.png", shares, 103, QUANTILES, "calibration")
    assert png_size(tmp_path / "calibration.png") == (1200, 700)
    left, right = figures[0].axes
    for name, given in forecasts.items():
        share = [100 * sum(a <= f for a, f in zip(actual, given[:, q], strict=True)) / 103 for q in range(5)]
        (line,) = (line for line in left.get_lines() if line.get_label() == name)
        np.testing.assert_allclose(line.get_ydata(), share)
        (line,) = (line for line in right.get_lines() if line.get_label() == name)
        np.testing.assert_allclose(line.get_ydata(), np.array(share) - 100 * np.array(QUANTILES), atol=1e-12)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_few_rows_can_be_drawn(tmp_path, rows):
    dates, actual, forecast = case(rows)
    plots.fan_chart(tmp_path / "fan.png", dates, actual, forecast, QUANTILES, "few")
    shares = {"model": (actual[:, None] <= forecast).mean(axis=0)}
    plots.calibration(tmp_path / "calibration.png", shares, rows, QUANTILES, "few")
    assert png_size(tmp_path / "fan.png") == png_size(tmp_path / "calibration.png") == (1200, 700)


def test_the_same_picture_is_the_same_file(tmp_path):
    dates, actual, forecast = case(53)
    shares = {"model": (actual[:, None] <= forecast).mean(axis=0)}
    for name in ("a", "b"):
        plots.fan_chart(tmp_path / f"fan_{name}.png", dates, actual, forecast, QUANTILES, "twice")
        plots.calibration(tmp_path / f"cal_{name}.png", shares, 53, QUANTILES, "twice")
    for kind in ("fan", "cal"):
        assert (tmp_path / f"{kind}_a.png").read_bytes() == (tmp_path / f"{kind}_b.png").read_bytes()


def test_wilson_interval_by_hand():
    # 0 of 10: [0, z^2 / (10 + z^2)].  5 of 10: 0.5 -+ z sqrt(0.025 + z^2 / 400) / (1 + z^2 / 10).
    low, high = wilson_interval(np.array([0.0, 0.5, 1.0]), 10)
    np.testing.assert_allclose(low, [0.0, 0.236593, 0.722467], atol=1e-6)
    np.testing.assert_allclose(high, [0.277533, 0.763407, 1.0], atol=1e-6)


def test_nothing_global_is_used():
    code = "import sys, tftjax.plots.forecasts; sys.exit(len({'matplotlib.pyplot', 'jax'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
