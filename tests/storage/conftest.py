"""A run of which nothing is trained."""

import pytest
from tiny import begin_run, make_rows, write_config

from tftjax.config.loading import load
from tftjax.data.loading import load_panel


@pytest.fixture
def begun(tmp_path):
    """Config and panel of a run, its directory made, nothing trained."""
    config = load(write_config(tmp_path / "in", make_rows()))
    panel = load_panel(config.data)
    directory = tmp_path / "runs" / "tiny"
    begin_run(directory, config, panel)
    return config, panel, directory
