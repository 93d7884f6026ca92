"""Reading ahead in threads: results in order, a bounded number of items in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Pending = TypeVar("Pending")


def prefetch(
    work: Callable[[Item], Result], items: Iterable[Item], ahead: int, workers: int
) -> Generator[Result, None, None]:
    """`work(item)` for every item, in order, run in `workers` threads up to `ahead` items early.

    An exception of `work` is raised where its result would come. Whoever stops early cancels what
    has not begun and waits for what has: nothing is read or written after the end. Who closes it
    (contextlib.closing) also gets an interrupt of that wait, which a destructor would swallow.
    """

    def start(pool: ThreadPoolExecutor, item: Item) -> Future[Result]:
        """Start the work on one item."""
        return pool.submit(work, item)

    with closing(prefetch_groups(start, items, ahead, workers)) as futures:
        for future in futures:
            yield future.result()


def prefetch_groups(
    start: Callable[[ThreadPoolExecutor, Item], Pending],
    items: Iterable[Item],
    ahead: int,
    workers: int,
) -> Generator[Pending, None, None]:
    """The same where an item is several tasks: `start(pool, item)` submits them and returns their
    futures in any form, which is yielded as it is."""
    todo = iter(items)
    pending: deque[Pending] = deque()
    pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="prefetch")
    try:
        for item in todo:
            pending.append(start(pool, item))
            if len(pending) > ahead:
                yield pending.popleft()
        while pending:
            yield pending.popleft()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
