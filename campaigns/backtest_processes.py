"""Tasks in parallel processes that leave nothing behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from campaigns.errors import MatloopError

Task = TypeVar("Task")
Done = TypeVar("Done")


def in_processes(do: Callable[[Task], Done], tasks: Sequence[Task], workers: int) -> Iterator[Done]:
    """Do tasks, each as soon as a process is free; in the order in which they end.

    The processes end with this one, however it ends.

    Args:
        do: a function of a module, which a fresh process can import.
        tasks: what it is given, each of which can be pickled.
        workers: processes, at most; each computes with one thread.

    Raises:
        MatloopError: a process died.
    """
    if not tasks:
        return
    others = multiprocessing.active_children()
    context = multiprocessing.get_context("spawn")
    with _one_thread_each():
        pool = ProcessPoolExecutor(
            min(workers, len(tasks)), context, initializer=_begin_worker, initargs=(os.getpid(),)
        )
        try:
            left: set[Future[Done]] = {pool.submit(do, task) for task in tasks}
            while left:
                ended, left = wait(left, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield future.result()
        except (KeyboardInterrupt, GeneratorExit):
            # Whoever asked for the next result gave up: a replay may take minutes.
            for process in multiprocessing.active_children():
                if process not in others:
                    process.terminate()
            raise
        except BrokenProcessPool as error:
            raise MatloopError(
                "a process of the backtest died",
                why="it was killed, perhaps since memory ran out",
                unchanged="every replay that ended is kept",
                hint="the same command goes on from there; --workers 1 needs the least memory",
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that are begun here have one thread: more would only wait for each other."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin_worker(parent: int) -> None:
    """Let a process end at once with the one that began it, however that ends."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(143)

    if sys.platform != "win32":
        threading.Thread(target=watch, daemon=True).start()
