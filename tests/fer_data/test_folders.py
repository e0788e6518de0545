"""Output folders belong to one kind of result and one process; nobody else's files are touched."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import pytest

from aupipe.fer_data import folders
from aupipe.fer_data.errors import FolderInUseError, UserInputError
from aupipe.fer_data.folders import EXPLANATION, KINDS, LANDMARKS, RUN, STORE, FolderKind, NoLocksWarning, output_folder
from aupipe.fer_data.shards import Store, open_store
from aupipe.fer_data.shards.inspect import inspect_path


def test_a_killed_command_s_temporaries_go(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    for pid in (2**22 + 1, os.getpid()):  # Linux has no process of so large a number
        (tmp_path / "faces" / f".a.png.{pid}.tmp").write_text("half")
    (tmp_path / "explain.json").write_text("{}")
    with output_folder(tmp_path, EXPLANATION):
        assert [path.name for path in (tmp_path / "faces").iterdir()] == [f".a.png.{os.getpid()}.tmp"]


def test_a_manifest_s_folder_is_no_place_for_results(tmp_path: Path) -> None:
    (tmp_path / "faces.csv").write_text("sample_id,path,label,split\n")
    with pytest.raises(UserInputError, match=r"holds something else.*faces\.csv"), output_folder(tmp_path, EXPLANATION):
        pass
    assert (tmp_path / "faces.csv").read_text() == "sample_id,path,label,split\n"


def test_a_folder_is_held_by_one_process_and_freed_when_it_dies(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from aupipe.fer_data.folders import RUN, output_folder
with output_folder(Path(sys.argv[1]), RUN):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(FolderInUseError, match=r"in use: another aupipe process .* choose another --out"):  # noqa: SIM117
            with output_folder(tmp_path, RUN):
                pass
        other.kill()
        other.wait()
    with output_folder(tmp_path, RUN):
        pass


def test_a_lock_can_be_taken_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), output_folder(tmp_path, RUN):
        raise ValueError("inside")
    with output_folder(tmp_path, RUN):
        pass


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_folder_of_one_kind_is_not_another_kinds(kind: FolderKind, tmp_path: Path) -> None:
    other = RUN if kind is not RUN else LANDMARKS
    with output_folder(tmp_path / "out", kind):
        (tmp_path / "out" / "content").write_text("precious")
    with (
        pytest.raises(UserInputError, match=f"got|Got: what `{kind.command}` made"),
        output_folder(tmp_path / "out", other),
    ):
        pass
    with output_folder(tmp_path / "out", kind):
        assert (tmp_path / "out" / "content").read_text() == "precious"


def test_a_folder_with_other_peoples_files_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "faces.csv").write_text("path,label\n")
    with (
        pytest.raises(UserInputError, match=r"holds something else.*Got: faces\.csv"),
        output_folder(tmp_path, EXPLANATION),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["faces.csv"]


def test_system_files_do_not_make_a_folder_somebodys(tmp_path: Path) -> None:
    for name in (".DS_Store", "._.DS_Store"):
        (tmp_path / name).touch()
    with output_folder(tmp_path, EXPLANATION):
        pass


@pytest.mark.parametrize(("kind", "name"), [(RUN, "config.json"), (STORE, "train-00000.h5"), (STORE, "index.json")])
def test_a_copied_folder_is_known_by_what_is_in_it(kind: FolderKind, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    for said in ("", "explanation\n", "somebody's"):
        (tmp_path / ".lock").write_text(said)
        with output_folder(tmp_path, kind):
            pass
    (tmp_path / ".lock").unlink()
    with output_folder(tmp_path, kind):
        pass


@pytest.mark.parametrize("target", ["file", "nothing", "device"])
def test_a_lock_that_is_a_link_is_not_followed(target: str, tmp_path: Path) -> None:
    precious = tmp_path / "precious.csv"
    precious.write_text("weeks of work")
    (tmp_path / "out").mkdir()
    where = {"file": precious, "nothing": tmp_path / "new.csv", "device": Path("/dev/zero")}[target]
    (tmp_path / "out" / ".lock").symlink_to(where)
    with pytest.raises(UserInputError, match="not a plain file"), output_folder(tmp_path / "out", RUN):
        pass
    assert precious.read_text() == "weeks of work" and not (tmp_path / "new.csv").exists()


def test_a_lock_that_is_a_pipe_or_a_folder_does_not_hang(tmp_path: Path) -> None:
    for name in ("pipe", "folder"):
        (tmp_path / name).mkdir()
        os.mkfifo(tmp_path / name / ".lock") if name == "pipe" else (tmp_path / name / ".lock").mkdir()
        with pytest.raises(UserInputError, match="not a plain file"), output_folder(tmp_path / name, RUN):
            pass


def test_somebody_elses_lock_file_keeps_its_content(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("pid 1234 of another program")
    with pytest.raises(UserInputError, match=r"a \.lock file that is not ours"), output_folder(tmp_path, RUN):
        pass
    assert (tmp_path / ".lock").read_text() == "pid 1234 of another program"


@pytest.mark.parametrize("answer", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_used_and_said(
    answer: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(folders.fcntl, "flock", refuse)
    with pytest.warns(NoLocksWarning, match="has no locks: do not run two commands"), output_folder(tmp_path, RUN):
        (tmp_path / "x").touch()


def test_other_errors_of_the_lock_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(folders.fcntl, "flock", refuse)
    with warnings.catch_warnings(), pytest.raises(OSError, match="Input/output"), output_folder(tmp_path, RUN):
        pass


def test_stores_are_read_without_locks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only mount, or a file system without locks, can be read."""
    real, asked = h5py.File, list[object]()

    def opened(name: object, mode: str = "r", **options: object) -> h5py.File:
        if isinstance(name, (str, Path)):
            asked.append(options.get("locking"))
        return real(name, mode, **options)

    monkeypatch.setattr(h5py, "File", opened)
    again = open_store(store.folder)
    assert len(again.split("test").landmarks) and inspect_path(store.folder).lines
    assert inspect_path(store.folder / "train-00000.h5").lines and asked
    assert set(asked) == {False}
