"""A Temporal Fusion Transformer in functional JAX that forecasts the distribution of returns.

A public name is imported at its first use, so that no command starts slower.
"""

import importlib
from collections.abc import Callable
from typing import Any


def face(package: str, **modules: str) -> tuple[list[str], Callable[[str], Any]]:
    """Makes `__all__` and `__getattr__` of a package from what others may use of it; the rest is private.

    Args:
      package: the package's `__name__`.
      modules: by public module, the names in it that can be imported from the package itself, divided by
        blanks.
    """
    homes = {name: module for module, names in modules.items() for name in names.split()}

    def resolve(name: str) -> Any:
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return [*modules, *homes], resolve


__all__, __getattr__ = face(
    __name__,
    api="Backtest LearningRates Run Search Sweep backtest find_learning_rate fit fit_sweep load search",
    config="Config",
    errors="UserError",
)
__version__ = "0.1.0"
