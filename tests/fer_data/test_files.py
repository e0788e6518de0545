from __future__ import annotations

import errno
import json
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aupipe.fer_data.errors import FerError
from aupipe.fer_data.files import (
    atomic_path,
    canonical_json,
    digest,
    file_name,
    flushing,
    remove_temporaries,
    sha256_bytes,
    sha256_file,
    withdraw,
    write_json,
    write_text,
)

ROOT = Path(__file__).parents[2]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_replaces_the_file_and_makes_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "note.txt"
    write_text(path, "old")
    write_text(path, "grüße\n")
    assert path.read_bytes() == "grüße\n".encode()
    assert names(path.parent) == ["note.txt"]


@pytest.mark.parametrize("error", [ValueError("writer"), KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")])
def test_a_raising_writer_leaves_the_old_content_and_no_temporary(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises((type(error), FerError)), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_nothing_is_visible_under_the_final_name_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "new"


def test_the_content_reaches_the_disk_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (events.append("fsync"), fsync(descriptor))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (events.append("rename"), replace(self, to))[1])
    write_text(tmp_path / "a.txt", "new")
    assert events == ["fsync", "rename", "fsync"]


def test_a_full_disk_is_one_paragraph_and_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "index.json"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FerError, match=r"Could not write .*index\.json: No space left on device\. .*free some space"):
        write_json(path, {"new": 1})
    assert path.read_text() == "old"
    assert names(tmp_path) == ["index.json"]


def test_a_real_write_error_of_the_kernel_is_reported(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from aupipe.fer_data.errors import FerError
from aupipe.fer_data.files import write_text
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    write_text(Path(sys.argv[1]), "x" * 5000)
except FerError as error:
    print(error)
"""
    done = run(program, str(tmp_path / "big.txt"))
    assert done.stdout.startswith(f"Could not write {tmp_path / 'big.txt'}: File too large.")
    assert names(tmp_path) == []


def test_a_folder_that_is_a_file_is_a_paragraph(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(FerError, match="Could not write"):
        write_text(tmp_path / "out" / "a.txt", "new")


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    program = """
import os, signal, sys
from pathlib import Path
from aupipe.fer_data.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run(program, str(tmp_path / "a.h5"), check=False).returncode == -9
    assert len(names(tmp_path)) == 1 and names(tmp_path)[0].endswith(".tmp")
    for living in (f".b.png.{os.getpid()}.tmp", ".mine.tmp", ".c.png.1.tmp"):
        (tmp_path / living).write_text("in use")
    remove_temporaries(tmp_path.parent)
    assert names(tmp_path) == sorted([f".b.png.{os.getpid()}.tmp", ".c.png.1.tmp", ".mine.tmp"])


ODD = ["../b", "/b", "a//b", "", ".", "..", "a/../b", "x" * 250, "a\0b", "a\nb", "c\udcff", "a~b", "b.png/c"]


@pytest.mark.parametrize("name", [*ODD, "/".join("a" * 3000), "a/.hidden", "a/.lock", " a", "a."])
def test_an_odd_name_gets_a_safe_file_of_its_own(tmp_path: Path, name: str) -> None:
    made = file_name(name)
    assert made != file_name(name + "x") and made != name and file_name(made) != made
    path = tmp_path / f"{made}.json"
    write_text(path, name)
    assert path.resolve().parent == tmp_path.resolve()


def test_a_usual_name_is_its_own_file() -> None:
    for name in ("test/b.jpg.face1", "ü <i>.png", "a/b", "表情/0 1.png.face12"):
        assert file_name(name) == name


def test_a_withdrawn_file_is_gone_from_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder reaches the disk after the file went, whoever removed it; a refusal is one paragraph."""
    (tmp_path / "report.json").write_text("{}")
    seen: list[list[str]] = []
    monkeypatch.setattr("aupipe.fer_data.files._fsync", lambda path: seen.append(names(path)))
    for _ in range(2):
        withdraw(tmp_path / "report.json")
    assert seen == [[], []]

    def full(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("aupipe.fer_data.files._fsync", full)
    with pytest.raises(FerError, match=r"Could not remove .*report\.json: Input/output error.*run the same command"):
        withdraw(tmp_path / "report.json")


def run(program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True, text=True, check=check, timeout=60,
    )  # fmt: skip


def test_a_link_at_the_temporary_name_is_not_written_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious.csv"
    precious.write_text("weeks of work")
    (tmp_path / f".x.json.{os.getpid()}.tmp").symlink_to(precious)
    write_text(tmp_path / "x.json", "new")
    assert precious.read_text() == "weeks of work"
    assert (tmp_path / "x.json").read_text() == "new" and not (tmp_path / "x.json").is_symlink()


def test_a_source_that_cannot_be_read_is_named_and_not_the_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"), atomic_path(tmp_path / "x"):
        (tmp_path / "gone.csv").read_bytes()
    assert names(tmp_path) == []


def test_a_file_system_that_cannot_flush_folders_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "x", "new")
    assert names(tmp_path) == ["x"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(json_values)
@settings(max_examples=40, deadline=None)
def test_canonical_json_depends_on_the_value_only(value: object) -> None:
    text = canonical_json(value)
    again = json.loads(text)
    assert again == value
    assert canonical_json(again) == text
    assert digest(again) == digest(value) == sha256_bytes(text.encode("utf-8", "surrogatepass"))


def test_canonical_json_sorts_keys_and_keeps_letters() -> None:
    assert (
        canonical_json({"b": (1, 2), "ä": None, "a": {"z": 1, "y": 0.1}}) == '{"a":{"y":0.1,"z":1},"b":[1,2],"ä":null}'
    )
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})


@pytest.mark.parametrize("value", [float("nan"), [float("inf")]])
def test_canonical_json_refuses_nan(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)


def test_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(data)
    assert sha256_file(tmp_path / "a") == sha256_bytes(data)


def test_the_limit_used_above_is_not_left_on_this_process() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_what_the_disk_refuses_while_a_file_is_flushed_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only once: the kernel reports a failed write to one caller, so a later fsync may succeed."""
    path, done = tmp_path / "file", []
    path.write_bytes(b"content")
    with flushing(path):
        done.append("quietly")
    refusals = [OSError(errno.EIO, os.strerror(errno.EIO))]

    def refusing(descriptor: int) -> None:
        if refusals:
            raise refusals.pop()

    monkeypatch.setattr(os, "fsync", refusing)
    with pytest.raises(OSError, match="Input/output error"), flushing(path):
        done.append("refused")
    assert done == ["quietly", "refused"] and not refusals
