"""The course of a training as a picture: what is drawn is what the lines say."""

import json

import numpy as np
from plots.test_forecasts import png_size
from tiny import HEALTHY

from tftjax.plots import training


def records(epochs, warned=()):
    """Lines of metrics.jsonl with numbers that differ from epoch to epoch and from name to name."""
    names = [*HEALTHY, *(n.replace("gradient", "update") for n in HEALTHY if "norm" in n)]
    names += ["loss", "val/loss", "sigma", "share_positive", "output_to_encoder_gradient"]
    return [
        {name: (place + 1) * 0.1**epoch for place, name in enumerate(names)}
        | {"epoch": epoch, "warnings": {"few": "3 of 9"} if epoch in warned else {}}
        for epoch in range(1, epochs + 1)
    ]


def test_every_quantity_has_its_line_in_its_unit():
    lines = records(3, warned=(2,))
    figure = training.training(lines, "a_$b")
    drawn = 0
    for axes, panel in zip(figure.axes, training.PANELS, strict=True):
        assert axes.get_title() == panel.title
        found = {line.get_label(): line for line in axes.get_lines()}
        for name, (label, factor) in panel.lines.items():
            np.testing.assert_allclose(found[label].get_ydata(), [factor * line[name] for line in lines])
            np.testing.assert_array_equal(found[label].get_xdata(), [1, 2, 3])
            drawn += 1
        assert len(axes.patches) == 1  # the epoch with a warning
    assert drawn == 20
    assert "few" in figure.get_supxlabel()
    assert "no warnings" in training.training(records(1), "x").get_supxlabel()


def test_lines_of_earlier_versions_and_of_a_kill(tmp_path):
    old = [{"epoch": epoch, "loss": 0.002, "val/loss": 0.003} for epoch in (1, 2)]
    text = "".join(json.dumps(line) + "\n" for line in old) + '{"epoch": 3, "lo'
    (tmp_path / "metrics.jsonl").write_text(text)
    for name in ("a.png", "b.png"):
        training.draw(tmp_path, tmp_path / name, "old")
    assert png_size(tmp_path / "a.png") == (1200, 700)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_without_lines_there_is_no_picture(tmp_path):
    training.draw(tmp_path, tmp_path / "a.png", "none")
    (tmp_path / "metrics.jsonl").write_text("")
    training.draw(tmp_path, tmp_path / "a.png", "none")
    assert not (tmp_path / "a.png").exists()
