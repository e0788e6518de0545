from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from aupipe.fer_data import machine


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of control groups in which this process lies where `table` says."""
    monkeypatch.setattr(machine, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "table")
    return tmp_path


def limit(path: Path, value: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value + "\n")


def test_without_limits_it_is_the_machines(groups: Path) -> None:
    assert machine.usable_memory() == psutil.virtual_memory().total
    (groups / "table").write_text("0::/user/me\n")
    limit(groups / "cgroup" / "user" / "me" / "memory.max", "max")
    assert machine.usable_memory() == psutil.virtual_memory().total


@pytest.mark.parametrize("which", ["user", "user/me"])
def test_the_lowest_limit_of_the_groups_around_it_counts(groups: Path, which: str) -> None:
    (groups / "table").write_text("0::/user/me\n")
    for name in ("user", "user/me", "other"):
        limit(groups / "cgroup" / name / "memory.max", "70000000" if name == which else "90000000")
    limit(groups / "cgroup" / "other" / "memory.max", "100")
    assert machine.usable_memory() == machine.available_memory() == 70_000_000


def test_what_a_group_holds_is_not_available_but_for_files_that_can_be_dropped(groups: Path) -> None:
    (groups / "table").write_text("0::/user/me\n")
    inner, outer = groups / "cgroup" / "user" / "me", groups / "cgroup" / "user"
    limit(outer / "memory.max", "80000000")
    limit(outer / "memory.current", "65000000")
    limit(inner / "memory.max", "70000000")
    limit(inner / "memory.current", "60000000")
    limit(inner / "memory.stat", "anon 25000000\ninactive_file 30000000\nactive_file 5000000")
    assert (machine.usable_memory(), machine.available_memory()) == (70_000_000, 15_000_000)
    limit(outer / "memory.stat", "inactive_file 30000000")
    assert machine.available_memory() == 40_000_000
    limit(inner / "memory.current", "170000000")
    assert machine.available_memory() == 0


def test_version_1_and_a_group_whose_path_is_the_hosts(groups: Path) -> None:
    (groups / "table").write_text("9:name=systemd:/x\n4:hugetlb,memory:/docker/abc\n1:cpu:/x\n")
    limit(groups / "cgroup" / "memory" / "memory.limit_in_bytes", "50000000")
    limit(groups / "cgroup" / "memory" / "x" / "memory.limit_in_bytes", "100")
    assert machine.usable_memory() == machine.available_memory() == 50_000_000
    limit(groups / "cgroup" / "memory" / "memory.usage_in_bytes", "20000000")
    limit(groups / "cgroup" / "memory" / "memory.stat", "inactive_file 1\ntotal_inactive_file 5000000")
    assert machine.available_memory() == 35_000_000


def test_where_the_system_says_nothing_all_there_is_is_available(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MACHINE", groups / "none")
    assert machine.available_memory() == machine.usable_memory() == psutil.virtual_memory().total


DEFAULTS = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
from aupipe.fer_analysis.benchmark.processes import default_jobs
from aupipe.fer_analysis.benchmark.run import BenchmarkSettings
from aupipe.fer_data.machine import usable_cpus
from aupipe.pipeline.executors import create_executor
print(usable_cpus(), create_executor(None).workers, default_jobs("cpu"), *BenchmarkSettings().resolved("cpu", 4))
"""


def test_what_is_started_by_default_respects_the_affinity() -> None:
    """As under ``taskset -c``: one worker, one job, of one thread."""
    core = max(os.sched_getaffinity(0))
    done = subprocess.run(
        [sys.executable, "-c", DEFAULTS, str(core)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["1"] * 5


@pytest.fixture
def eight_cores(groups: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "_cpus_of_affinity", lambda: 8)
    return groups


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("100000 100000", 1), ("250000 100000", 3), ("5000 100000", 1)]
)
def test_a_quota_of_cores_counts(eight_cores: Path, quota: str, cores: int) -> None:
    assert machine.usable_cpus() == 8
    (eight_cores / "table").write_text("0::/user/me\n")
    limit(eight_cores / "cgroup" / "user" / "cpu.max", "1600000 100000")
    assert machine.usable_cpus() == 8
    limit(eight_cores / "cgroup" / "user" / "me" / "cpu.max", "max 100000")
    limit(eight_cores / "cgroup" / "user" / "cpu.max", quota)
    limit(eight_cores / "cgroup" / "other" / "cpu.max", "1000 100000")
    assert machine.usable_cpus() == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("400000", 4), ("150000", 2), ("1000", 1)])
def test_a_quota_of_version_1_counts(eight_cores: Path, quota: str, cores: int) -> None:
    (eight_cores / "table").write_text("4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n")
    limit(eight_cores / "cgroup" / "cpu" / "cpu.cfs_period_us", "100000")
    limit(eight_cores / "cgroup" / "cpu" / "cpu.cfs_quota_us", quota)
    limit(eight_cores / "cgroup" / "cpuset" / "cpu.cfs_quota_us", "1")
    assert machine.usable_cpus() == cores
