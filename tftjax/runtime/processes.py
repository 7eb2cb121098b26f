"""A function of many items, divided over processes: one a core; or in a process beside this one."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import Any

MOST_IN_THIS_PROCESS = 8  # items; a process takes a second or two to start
FEWEST_BESIDE = 4  # calls that are worth a process of their own

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
Call = Callable[[Callable[[Any], Any], Any, Callable[[], Any]], None]


@contextmanager
def divided(num_items: int) -> Iterator[Map]:
    """Gives a `map` over processes, which end with the block; of few items it is `map` itself.

    Function and items go to other processes: the function stands in a module. Results come in order; what the
    function raises, is raised at its item. Processes start with the first use.
    """
    if num_items <= MOST_IN_THIS_PROCESS:
        yield map
        return
    from tftjax.runtime.settings import available_cores  # imports jax, which the processes do without

    with _executor(min(available_cores(), num_items)) as executor:

        def over_processes(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
            with _without_main():
                return executor.map(function, items)

        yield over_processes


@contextmanager
def beside(num_calls: int) -> Iterator[Call]:
    """Gives `call(function, item, after)`: calls a function in another process, and then `after` in this one.

    Calls are made in order, and all have ended when the block ends. What a function raises, is raised by a
    later call or at the end. Few calls, or those of a machine with one core, are made in this process.
    """
    from tftjax.runtime.settings import available_cores

    if num_calls < FEWEST_BESIDE or available_cores() == 1:

        def here(function: Callable[[Any], Any], item: Any, after: Callable[[], Any]) -> None:
            function(item)
            after()

        yield here
        return
    waiting: deque[tuple[Future, Callable[[], Any]]] = deque()

    def settle(*, whole: bool) -> None:
        while waiting and (whole or waiting[0][0].done()):
            future, after = waiting.popleft()
            future.result()
            after()

    with _executor(1) as executor:

        def there(function: Callable[[Any], Any], item: Any, after: Callable[[], Any]) -> None:
            with _without_main():
                waiting.append((executor.submit(function, item), after))
            settle(whole=False)

        yield there
        settle(whole=True)


@contextmanager
def _executor(num_processes: int) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of jax's threads
    executor = ProcessPoolExecutor(num_processes, context, _follow_parent)
    try:
        yield executor
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
