"""How much memory there is for this process: the machine's, or less where a control group limits it."""

from __future__ import annotations

import os
from pathlib import Path

GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def physical_memory() -> int:
    """Bytes of the machine's memory, or of what the process's control group allows."""
    return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_group_limits())


def available_memory() -> int:
    """Bytes that programs can still take; where the system does not say, all there are."""
    facts = Path("/proc/meminfo")
    for line in facts.read_text().splitlines() if facts.is_file() else ():
        if line.startswith("MemAvailable:"):
            return min(int(line.split()[1]) * 1024, physical_memory())
    return physical_memory()


def _group_limits() -> list[int]:
    """The limits of this process's control groups and of those around them (versions 1 and 2), where there are any."""
    limits: list[int] = [2**63 - 1]
    for line in OWN_GROUPS.read_text().splitlines() if OWN_GROUPS.is_file() else ():
        _, controllers, group = line.split(":", 2)
        if controllers == "memory":
            limits += _limits(GROUPS / "memory", group, "memory.limit_in_bytes")
        elif not controllers:
            limits += _limits(GROUPS, group, "memory.max")
    return limits


def _limits(root: Path, group: str, name: str) -> list[int]:
    inner = root / group.lstrip("/")
    # Inside a container the group's path may be one of the host: what is mounted as the root is then its own.
    folders = [folder for folder in (inner, *inner.parents) if folder.is_relative_to(root)]
    found = []
    for folder in folders:
        try:
            found.append(int((folder / name).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return found
