"""How much memory there is for this process: the machine's, or less where a control group limits it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GROUPS, OWN_GROUPS, MACHINE = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"), Path("/proc/meminfo")


@dataclass(frozen=True)
class Limit:
    """A control group's limit and what its processes hold, in bytes; file pages that can be dropped do not count."""

    most: int
    held: int


def usable_memory() -> int:
    """Bytes of the machine's memory, or of what this process's control groups allow."""
    return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *(limit.most for limit in _limits()))


def available_memory() -> int:
    """Bytes that this process can still take; where the system does not say, all it may use."""
    machine = _figure(MACHINE, "MemAvailable:")
    free = usable_memory() if machine is None else machine * 1024
    return max(min(free, *(limit.most - limit.held for limit in _limits())), 0)


def _limits() -> list[Limit]:
    """Of this process's control groups and those around them (versions 1 and 2); one that limits nothing at least."""
    found = [Limit(2**63, 0)]
    for line in OWN_GROUPS.read_text().splitlines() if OWN_GROUPS.is_file() else ():
        _, controllers, group = line.split(":", 2)
        if "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            found += _limits_around(GROUPS / "memory", group, *names)
        elif not controllers:
            found += _limits_around(GROUPS, group, "memory.max", "memory.current", "inactive_file")
    return found


def _limits_around(root: Path, group: str, most: str, held: str, droppable: str) -> Iterator[Limit]:
    inner = root / group.lstrip("/")
    # Inside a container the group's path may be one of the host: what is mounted as the root is then its own.
    for folder in (inner, *inner.parents):
        if folder.is_relative_to(root) and (limit := _figure(folder / most)) is not None:
            cache = _figure(folder / "memory.stat", droppable) or 0
            yield Limit(limit, max((_figure(folder / held) or 0) - cache, 0))


def _figure(path: Path, name: str | None = None) -> int | None:
    """The whole number in a file, or the one after ``name`` on a line of its own; None where there is none."""
    try:
        words = [line.split() for line in path.read_text().splitlines()]
        return int(words[0][0]) if name is None else next(int(line[1]) for line in words if line[:1] == [name])
    except (OSError, ValueError, IndexError, StopIteration):  # no such group or line, or "max"
        return None
