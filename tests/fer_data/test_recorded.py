from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from aupipe.fer_data import recorded
from aupipe.fer_data.errors import RunError
from aupipe.fer_data.files import sha256_bytes
from aupipe.fer_data.recorded import DIGESTS, check_recorded, read_recorded, recorded_path, write_recorded

FIX = "Make it again."


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    write_recorded(tmp_path / "a.json", b"one")
    write_recorded(tmp_path / "b.json", b"two")
    write_recorded(tmp_path / "a.json", b"three")
    assert read_recorded(tmp_path / "a.json", FIX) == b"three"
    assert check_recorded(tmp_path / "b.json", FIX) == sha256_bytes(b"two")
    assert {name: len(known) for name, known in json.loads((tmp_path / DIGESTS).read_text()).items()} == {
        "a.json": 1,
        "b.json": 1,
    }


@pytest.mark.parametrize("damaged", [b"", b"thre", b"thref", b"three\n"])
def test_another_content_is_named(tmp_path: Path, damaged: bytes) -> None:
    write_recorded(tmp_path / "a.json", b"three")
    (tmp_path / "a.json").write_bytes(damaged)
    for read in (read_recorded, check_recorded):
        with pytest.raises(RunError, match=r"a\.json is damaged.*Make it again"):
            read(tmp_path / "a.json", FIX)


def test_the_file_before_is_damage_too(tmp_path: Path) -> None:
    write_recorded(tmp_path / "a.json", b"old")
    write_recorded(tmp_path / "a.json", b"new")
    (tmp_path / "a.json").write_bytes(b"old")
    with pytest.raises(RunError, match="damaged"):
        read_recorded(tmp_path / "a.json", FIX)


def test_a_crash_between_record_and_rename_leaves_a_sound_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_recorded(tmp_path / "a.json", b"old")
    write = recorded.write_json

    def write_and_die(path: Path, value: object) -> None:
        write(path, value)
        raise SystemExit

    monkeypatch.setattr(recorded, "write_json", write_and_die)
    with pytest.raises(SystemExit):
        write_recorded(tmp_path / "a.json", b"new")
    assert read_recorded(tmp_path / "a.json", FIX) == b"old"
    with pytest.raises(SystemExit):
        write_recorded(tmp_path / "a.json", b"newer")
    assert read_recorded(tmp_path / "a.json", FIX) == b"old", "a second crash at the same place"


def test_two_commands_do_not_lose_each_other_s_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, write, refused = os.open(tmp_path, os.O_RDONLY), recorded.write_json, list[bool]()

    def write_while_another_waits(path: Path, value: object) -> None:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        refused.append(True)
        write(path, value)

    monkeypatch.setattr(recorded, "write_json", write_while_another_waits)
    write_recorded(tmp_path / "a.json", b"one")
    os.close(other)
    assert refused == [True, True]


def test_a_failed_write_keeps_file_and_record(tmp_path: Path) -> None:
    write_recorded(tmp_path / "a.json", b"old")
    with pytest.raises(ZeroDivisionError), recorded_path(tmp_path / "a.json") as temporary:
        temporary.write_bytes(b"new")
        raise ZeroDivisionError
    assert read_recorded(tmp_path / "a.json", FIX) == b"old"


def test_a_file_of_an_earlier_version_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"weights")
    write_recorded(tmp_path / "metrics.json", b"{}")
    assert read_recorded(tmp_path / "best.pt", FIX) == b"weights"


@pytest.mark.parametrize("content", ["", "[]", '{"a.json": 3}', "{" * 5000, '{"a.json": "0"}'])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    write_recorded(tmp_path / "a.json", b"one")
    (tmp_path / DIGESTS).write_text(content)
    with pytest.raises(RunError, match=rf"{DIGESTS}, which tells"):
        read_recorded(tmp_path / "a.json", FIX)
    with pytest.raises(RunError, match=rf"{DIGESTS}, which tells"):
        write_recorded(tmp_path / "a.json", b"two")
    assert (tmp_path / "a.json").read_bytes() == b"one"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (read_recorded, check_recorded):
        with pytest.raises(RunError, match="Cannot read"):
            read(tmp_path / "a.json", FIX)
