"""A function of many items, divided over processes: one a core."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import Any

MOST_IN_THIS_PROCESS = 8  # items; a process takes a second or two to start

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


@contextmanager
def divided(num_items: int) -> Iterator[Map]:
    """Gives a `map` over processes, which end with the block; of few items it is `map` itself.

    Function and items go to other processes: the function stands in a module. Results come in order; what the
    function raises, is raised at its item. Processes start with the first use.
    """
    if num_items <= MOST_IN_THIS_PROCESS:
        yield map
        return
    from tftjax.runtime import available_cores  # imports jax, which the processes do without

    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of jax's threads
    executor = ProcessPoolExecutor(min(available_cores(), num_items), context, _follow_parent)

    def over_processes(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        with _without_main():
            return executor.map(function, items)

    try:
        yield over_processes
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def _without_main() -> Iterator[None]:
    """Hides the main module: a process that starts would run it anew, and a user's script with it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _follow_parent() -> None:
    """Leaves Ctrl-C to the parent, and ends when that has ended, however it did."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
