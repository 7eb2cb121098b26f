"""Every check that training makes on its data, all findings at once."""

from tftjax.config.loading import Config
from tftjax.data.conditions import check_regimes
from tftjax.data.encoding import fit_encoding
from tftjax.data.loading import feature_set_of, load_panel
from tftjax.data.panel import Panel, check_return_units
from tftjax.data.sources import check_table, find_dataset, read_fred_csv
from tftjax.data.splits import check_batch_size, make_blocks, starts_of
from tftjax.errors import UserError


def findings(config: Config) -> list[str]:
    """What stands against training on the data that a config names; empty if nothing does.

    Files are checked one by one, so that a mistake in one does not hide those in another; what needs the
    whole panel is checked once the files are sound.
    """
    found: list[str] = []
    try:
        path = find_dataset(config.data.dataset)
        feature_set = feature_set_of(config.data)
    except UserError as error:
        return [str(error)]
    if path.is_dir() and not (path / "panel.json").is_file():
        for name in feature_set.series_names():
            found += _error_of(read_fred_csv, path / f"{name}.csv", name)
    elif path.is_file():
        date = "date" if config.data.columns is None else config.data.columns.date
        found += check_table(path, feature_set, date)
    if found:
        return found
    try:
        panel = load_panel(config.data)
    except UserError as error:
        return [str(error)]
    return _check_panel(panel, config)


def _check_panel(panel: Panel, config: Config) -> list[str]:
    lengths = config.model.encoder_length, config.model.prediction_length
    try:
        panel, found = make_blocks(panel, config.data, *lengths)
    except UserError as error:
        return [str(error)]
    train_rows = [block.splits.train for block in found]
    target = panel.frame[panel.target].to_numpy()
    targets = {
        block.name: target[rows.start : rows.stop] for block, rows in zip(found, train_rows, strict=True)
    }
    windows = starts_of(found, "train", *lengths)
    errors = _error_of(check_batch_size, config.train.batch_size, len(windows))
    errors += _error_of(check_return_units, targets, config.loss.target_std)
    attention = config.model.attention
    how = config.data.target_scale, config.data.scaling, attention
    unfit = _error_of(fit_encoding, panel, train_rows, *how)
    last_rows = windows + config.model.encoder_length - 1
    return errors + (unfit or _error_of(check_regimes, panel, last_rows, attention.regime))


def _error_of(check, *arguments) -> list[str]:
    try:
        check(*arguments)
    except UserError as error:
        return [str(error)]
    return []
