"""What can be known of a process from outside."""

from __future__ import annotations

import contextlib

import psutil


def memory_of(pid: int) -> int:
    """Bytes that a process and those it started hold in memory; 0 of one that has ended."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
        process = psutil.Process(pid)
        total = process.memory_info().rss
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += child.memory_info().rss
    return total
