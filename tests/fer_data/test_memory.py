from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from aupipe.fer_data import memory


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of control groups in which this process lies where `table` says."""
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "table")
    return tmp_path


def limit(path: Path, value: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value + "\n")


def test_without_limits_it_is_the_machines(groups: Path) -> None:
    assert memory.usable_memory() == psutil.virtual_memory().total
    (groups / "table").write_text("0::/user/me\n")
    limit(groups / "cgroup" / "user" / "me" / "memory.max", "max")
    assert memory.usable_memory() == psutil.virtual_memory().total


@pytest.mark.parametrize("which", ["user", "user/me"])
def test_the_lowest_limit_of_the_groups_around_it_counts(groups: Path, which: str) -> None:
    (groups / "table").write_text("0::/user/me\n")
    for name in ("user", "user/me", "other"):
        limit(groups / "cgroup" / name / "memory.max", "70000000" if name == which else "90000000")
    limit(groups / "cgroup" / "other" / "memory.max", "100")
    assert memory.usable_memory() == memory.available_memory() == 70_000_000


def test_what_a_group_holds_is_not_available_but_for_files_that_can_be_dropped(groups: Path) -> None:
    (groups / "table").write_text("0::/user/me\n")
    inner, outer = groups / "cgroup" / "user" / "me", groups / "cgroup" / "user"
    limit(outer / "memory.max", "80000000")
    limit(outer / "memory.current", "65000000")
    limit(inner / "memory.max", "70000000")
    limit(inner / "memory.current", "60000000")
    limit(inner / "memory.stat", "anon 25000000\ninactive_file 30000000\nactive_file 5000000")
    assert (memory.usable_memory(), memory.available_memory()) == (70_000_000, 15_000_000)
    limit(outer / "memory.stat", "inactive_file 30000000")
    assert memory.available_memory() == 40_000_000
    limit(inner / "memory.current", "170000000")
    assert memory.available_memory() == 0


def test_version_1_and_a_group_whose_path_is_the_hosts(groups: Path) -> None:
    (groups / "table").write_text("9:name=systemd:/x\n4:hugetlb,memory:/docker/abc\n1:cpu:/x\n")
    limit(groups / "cgroup" / "memory" / "memory.limit_in_bytes", "50000000")
    limit(groups / "cgroup" / "memory" / "x" / "memory.limit_in_bytes", "100")
    assert memory.usable_memory() == memory.available_memory() == 50_000_000
    limit(groups / "cgroup" / "memory" / "memory.usage_in_bytes", "20000000")
    limit(groups / "cgroup" / "memory" / "memory.stat", "inactive_file 1\ntotal_inactive_file 5000000")
    assert memory.available_memory() == 35_000_000


def test_where_the_system_says_nothing_all_there_is_is_available(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MACHINE", groups / "none")
    assert memory.available_memory() == memory.usable_memory() == psutil.virtual_memory().total
