from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from fer_data import memory


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
    assert memory.physical_memory() == psutil.virtual_memory().total
    (groups / "table").write_text("0::/user/me\n")
    limit(groups / "cgroup" / "user" / "me" / "memory.max", "max")
    assert memory.physical_memory() == psutil.virtual_memory().total


@pytest.mark.parametrize("which", ["user", "user/me"])
def test_the_lowest_limit_of_the_groups_around_it_counts(groups: Path, which: str) -> None:
    (groups / "table").write_text("0::/user/me\n")
    for name in ("user", "user/me", "other"):
        limit(groups / "cgroup" / name / "memory.max", "70000000" if name == which else "90000000")
    limit(groups / "cgroup" / "other" / "memory.max", "100")
    assert memory.physical_memory() == memory.available_memory() == 70_000_000


def test_version_1_and_a_group_whose_path_is_the_hosts(groups: Path) -> None:
    (groups / "table").write_text("9:name=systemd:/x\n4:memory:/docker/abc\n1:cpu:/x\n")
    limit(groups / "cgroup" / "memory" / "memory.limit_in_bytes", "50000000")
    limit(groups / "cgroup" / "memory" / "x" / "memory.limit_in_bytes", "100")
    assert memory.physical_memory() == 50_000_000
