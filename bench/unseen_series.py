"""Forecasts of stocks that the model has never seen: `python bench/unseen_series.py prices.csv VIXCLS.csv`.

Stocks are divided into groups; each group is held out in turn (`data.unseen`), and a model of the others
forecasts its days. Folds of several years: train on all years before but the last, which validates. Beside
it, the forecast that the network starts from, a linear model of the same stocks (`pooled_log_scale`), and
GJR-GARCH fitted every year to each held-out stock itself, to its last 500 days and to all of them. Prints
Markdown tables; tests take one number a day, the mean over stocks.

    python bench/unseen_series.py prices.csv VIXCLS.csv --years 2006-2015 --set train.learning_rate=0.001
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from seeds import seeds_of, train_seeds

from tftjax import runtime
from tftjax.config.loading import Config, apply_overrides, from_dict
from tftjax.data.panel import Panel, make_panel
from tftjax.data.prepared import Data, cardinalities, prepare
from tftjax.evaluate.baselines import BASELINES, Task
from tftjax.evaluate.formatting import p_text
from tftjax.evaluate.metrics import pinball_losses
from tftjax.evaluate.significance import diebold_mariano
from tftjax.model.forecast import forecast_rows
from tftjax.model.parameters import build_model, to_tree

CONFIG = Path(__file__).parent / "forecast_truth" / "unseen.json"
DAYS = 500  # of a stock's history that the shorter GJR-GARCH is fitted to
NETWORK, LINEAR, SHORT, LONG = "network", "linear", f"GJR-GARCH, {DAYS} days", "GJR-GARCH, all days before"


def read_stocks(prices: Path, vix: Path | None) -> Panel:
    """Daily returns of each stock, and the last known VIX of each day if there is a file of it."""
    returns = pd.read_csv(prices, index_col=0, parse_dates=True).pct_change().iloc[1:]
    columns = {}
    if vix is not None:
        values = pd.read_csv(vix, index_col=0, parse_dates=True, na_values=".").iloc[:, 0]
        columns["VIX"] = values.reindex(returns.index, method="ffill").to_numpy()
    parts = [pd.DataFrame({"ret": returns[name], **columns, "stock": name}) for name in returns]
    roles = {"static_categorical": ("stock",), "id_column": "stock"}
    return make_panel(pd.concat(parts), target="ret", observed=("ret", *columns), **roles)


def network_forecast(raw: dict, data: Data, seeds: int) -> np.ndarray:
    """The mean of the seeds' quantiles of the test windows, [W Q], in order."""
    configs = seeds_of(raw, seeds)
    states, layout = train_seeds(configs, data, configs[0].train.max_epochs)
    model = build_model(configs[0], *cardinalities(data.panel, data.encoding))
    starts = data.starts["test"]
    forecasts = [
        forecast_rows(model, to_tree(state.best_params, layout), data.series, starts) for state in states
    ]
    print(f"  best epochs {[int(state.best_epoch) for state in states]}", file=sys.stderr)
    return np.sort(np.mean(forecasts, axis=0)[:, 0])


def linear_forecast(config: Config, data: Data) -> np.ndarray:
    """The forecast that the network starts from, [W Q]: the scale times quantiles of scaled train returns."""
    series, last = data.series, data.starts["test"] + config.model.encoder_length - 1
    number = series.row_series[last]
    center, scale = (part[number] * series.volatility[last] for part in (series.center, series.scale))
    return center[:, None] + scale[:, None] * series.classical.shocks[:, 0]


def garch_forecast(returns: np.ndarray, dates: pd.DatetimeIndex, years: range, days: int | None, levels):
    """GJR-GARCH of one stock, fitted before each year to some of the last days, or to all, [T Q]."""
    forecasts = []
    for year in years:
        rows = np.flatnonzero(dates.year == year)
        train = range(0 if days is None else int(rows[0]) - days, int(rows[0]))
        task = Task(returns, {}, train, rows[:, None], levels, dates, None)
        forecasts.append(BASELINES["gjr_garch"](task)[:, 0])
    return np.concatenate(forecasts)


def losses_of(
    panel: Panel, raw: dict, years: range, arguments: argparse.Namespace
) -> dict[str, pd.DataFrame]:
    """Pinball loss of each forecast, by name: a row a day, a column a stock."""
    frame, levels = panel.frame, Config().model.quantiles
    stocks = list(dict.fromkeys(frame["stock"]))
    found: dict[str, dict[str, list]] = {NETWORK: {}, LINEAR: {}}
    for first in range(years.start, years.stop, arguments.refit):
        stop = min(first + arguments.refit, years.stop)
        dates = {"val": f"{first - 1}-01-01", "test": f"{first}-01-01", "end": f"{stop}-01-01"}
        for group in range(arguments.groups):
            unseen, begun = stocks[group :: arguments.groups], time.perf_counter()
            fold = raw | {"data": raw["data"] | {"split_dates": dates, "unseen": unseen}}
            config = from_dict(fold, "bench")
            data = prepare(panel, config)
            rows = data.starts["test"] + config.model.encoder_length
            target, names = (
                data.panel.frame["ret"].to_numpy()[rows],
                data.panel.frame["stock"].to_numpy()[rows],
            )
            forecasts = {LINEAR: linear_forecast(config, data)}
            forecasts[NETWORK] = network_forecast(fold, data, arguments.seeds)
            for name, forecast in forecasts.items():
                losses = pinball_losses(forecast[:, None], target[:, None], levels).mean(axis=(1, 2))
                for stock in unseen:
                    found[name].setdefault(stock, []).append(losses[names == stock])
            seconds = time.perf_counter() - begun
            print(f"{first} to {stop - 1}, without {', '.join(unseen)}: {seconds:.0f} s", file=sys.stderr)
    columns = {name: {s: np.concatenate(parts[s]) for s in stocks} for name, parts in found.items()}
    for name, days in ((SHORT, DAYS), (LONG, None)):
        columns[name] = {}
        for stock in stocks:
            returns = frame["ret"][frame["stock"] == stock]
            forecast = garch_forecast(returns.to_numpy(), returns.index, years, days, levels)
            target = returns[np.isin(returns.index.year, years)].to_numpy()
            losses = pinball_losses(forecast[:, None], target[:, None], levels).mean(axis=(1, 2))
            columns[name][stock] = losses
    index = returns.index[np.isin(returns.index.year, years)]
    return {name: pd.DataFrame(values, index=index) for name, values in columns.items()}


def print_tables(losses: dict[str, pd.DataFrame], stormy: pd.Series) -> None:
    """Gains in percent of the other's loss: on all days, calm and stormy ones, and by stock."""
    pairs = [(NETWORK, SHORT), (NETWORK, LONG), (LINEAR, SHORT), (LINEAR, LONG), (NETWORK, LINEAR)]
    print("| forecast | over | all days | calm | stormy | stocks ahead |\n|---|---|---|---|---|---|")
    for name, other in pairs:
        difference = (losses[name] - losses[other]).mean(axis=1)
        cells = []
        for days in (stormy | True, ~stormy, stormy):
            test = diebold_mariano((difference * days).to_numpy())
            gain = -100 * difference[days].mean() / losses[other][days].to_numpy().mean()
            cells.append(f"{gain:+.2f} %, {p_text(test.p)}")
        ahead = int((losses[name].mean() < losses[other].mean()).sum())
        print(f"| {name} | {other} |", " | ".join(cells), f"| {ahead} of {losses[name].shape[1]} |")
    print(
        "\n| stock | pinball x 1e3 |",
        " | ".join(f"network over {other}, %" for other in (SHORT, LONG, LINEAR)),
    )
    print("|---|---|---|---|---|")
    for stock in losses[NETWORK]:
        own = losses[NETWORK][stock].mean()
        gains = [f"{100 * (1 - own / losses[other][stock].mean()):+.2f}" for other in (SHORT, LONG, LINEAR)]
        print(f"| {stock} | {1e3 * own:.3f} |", " | ".join(gains), "|")


def main() -> None:
    """Trains, forecasts and prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prices", type=Path, help="CSV of adjusted prices: a column a stock, dates first")
    parser.add_argument("vix", type=Path, nargs="?", help="CSV of the VIX as FRED has it; without: no VIX")
    parser.add_argument("--years", default="2006-2015", help="years that are forecast")
    parser.add_argument("--refit", type=int, default=5, help="years from fold to fold")
    parser.add_argument("--groups", type=int, default=4, help="groups that are held out in turn")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", nargs="+", default=[], help="settings of the config, key=value")
    arguments = parser.parse_args()
    runtime.configure()
    panel = read_stocks(arguments.prices, arguments.vix)
    raw = apply_overrides(json.loads(CONFIG.read_text(encoding="utf-8")), arguments.set)
    years = range(int(arguments.years[:4]), int(arguments.years[-4:]) + 1)
    losses = losses_of(panel, raw, years, arguments)
    volatility = panel.frame.get("VIX", panel.frame["ret"].abs().groupby(level=0).transform("mean"))
    before = volatility[~volatility.index.duplicated()].shift()[losses[NETWORK].index]
    print_tables(losses, before > before.median())


if __name__ == "__main__":
    main()
