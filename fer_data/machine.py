"""The cores and the memory that this process has: the machine's, or less where it is limited to less."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GROUPS, OWN_GROUPS, MACHINE = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"), Path("/proc/meminfo")

_MEMORY_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
"""Of each version of control groups: what is allowed, what is held, and the line of what of that can be dropped."""


@dataclass(frozen=True)
class Limit:
    """A control group's limit and what its processes hold, in bytes; file pages that can be dropped do not count."""

    most: int
    held: int


def usable_cpus() -> int:
    """Count the cores that this process may use, by its affinity and the quotas of its control groups; at least 1.

    A quota of two and a half cores counts as three: they are busy for most of the time.
    """
    return max(1, min(_cpus_of_affinity(), *_quotas()))


def usable_memory() -> int:
    """Return the bytes of the machine's memory, or of what this process's control groups allow."""
    return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *(limit.most for limit in _limits()))


def available_memory() -> int:
    """Return the bytes that this process can still take; where the system does not say, all it may use."""
    machine = _figure(MACHINE, "MemAvailable:")
    free = usable_memory() if machine is None else machine * 1024
    return max(min(free, *(limit.most - limit.held for limit in _limits())), 0)


def _cpus_of_affinity() -> int:
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas() -> list[int]:
    """Cores, rounded up, of the control groups around this process; one that limits nothing at least."""
    found = [2**31]
    for folder, version in _groups("cpu"):
        if version == 1:
            quota, period = _figure(folder / "cpu.cfs_quota_us"), _figure(folder / "cpu.cfs_period_us")
        else:
            quota, period = (_figure(folder / "cpu.max", word=word) for word in (0, 1))
        if quota is not None and quota > 0 and period:  # version 1 says -1 for none
            found.append(math.ceil(quota / period))
    return found


def _limits() -> list[Limit]:
    """Memory of the control groups around this process; one that limits nothing at least."""
    found = [Limit(2**63, 0)]
    for folder, version in _groups("memory"):
        most, held, droppable = _MEMORY_FILES[version]
        if (limit := _figure(folder / most)) is not None:
            cache = _figure(folder / "memory.stat", droppable) or 0
            found.append(Limit(limit, max((_figure(folder / held) or 0) - cache, 0)))
    return found


def _groups(controller: str) -> Iterator[tuple[Path, int]]:
    """Folders of this process's control groups, from the inner to the outer, each with its version (1 or 2)."""
    for line in OWN_GROUPS.read_text().splitlines() if OWN_GROUPS.is_file() else ():
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = GROUPS / controller if controllers else GROUPS
        inner = root / group.lstrip("/")
        # Inside a container the group's path may be one of the host: what is mounted as the root is then its own.
        yield from ((one, 1 if controllers else 2) for one in (inner, *inner.parents) if one.is_relative_to(root))


def _figure(path: Path, name: str | None = None, word: int = 0) -> int | None:
    """The whole number in a file's first line, or the one after ``name`` on a line of its own; None: there is none."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
        return int(lines[0][word]) if name is None else next(int(line[1]) for line in lines if line[:1] == [name])
    except (OSError, ValueError, IndexError, StopIteration):  # no such group or line, or "max"
        return None
