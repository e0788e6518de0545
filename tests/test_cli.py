"""The command line's contract: help with an example, results on stdout, exit codes, one paragraph for an error."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
import numpy as np
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from aupipe.commands import cli
from aupipe.commands.console import DeviceName, show
from aupipe.fer_data.errors import FerError
from aupipe.fer_data.images import write_png
from aupipe.fer_data.landmark_parts import SCHEMA_VERSION as PART_VERSION
from aupipe.fer_data.shards import Store
from aupipe.fer_data.shards.spec import SCHEMA_VERSIONS
from aupipe.fer_models.training.config import TrainConfig
from drawings import read_drawing
from fuzz import calls
from offline import Built, Dataset

ROOT = Path(__file__).parents[1]


def commands(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    """Every leaf command by its full name."""
    leaves: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            leaves |= commands(command, f"{prefix}{name} ")
        else:
            leaves[prefix + name] = command
    return leaves


COMMANDS = commands(cli.cli)


def aupipe(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aupipe", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd or ROOT,
        check=False,
    )


@pytest.fixture
def own_handler() -> Iterator[None]:
    """The handler of Ctrl-C that :func:`main` replaces, put back."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    text = COMMANDS[name].help or ""
    assert f"Example: aupipe {name}" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"aupipe {name}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_command_of_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    used = re.findall(r"^\s*(?:\S*/)?aupipe ([a-z][a-z -]*)", text, re.MULTILINE)
    assert used
    for words in used:
        assert any(words == name or words.startswith(f"{name} ") for name in COMMANDS), words


@pytest.mark.parametrize("name", ["train", "benchmark"])
def test_settings_of_a_training_stand_under_headings(name: str) -> None:
    text = CliRunner().invoke(cli.cli, [name, "--help"]).output
    sections = dict(re.findall(r"^(\w[\w ]*):\n((?:  .*\n?)+)", text, re.MULTILINE))
    settings = {field.name: field.metadata["group"] for field in dataclasses.fields(TrainConfig)}
    assert list(sections) == ["Options", *dict.fromkeys(settings.values())]
    listed = [(option, heading) for heading, lines in sections.items()
              for option in re.findall(r"^  (?:-\w, )?(--[\w-]+)", lines, re.MULTILINE)]  # fmt: skip
    options = [one for one in COMMANDS[name].params if isinstance(one, click.Option)]
    expected = [(one.opts[-1], settings.get(one.name or "", "Options")) for one in options] + [("--help", "Options")]
    assert sorted(listed) == sorted(expected)


@pytest.mark.parametrize("name", COMMANDS)
def test_options_of_one_meaning_are_alike_in_every_command(name: str) -> None:
    options = {one.opts[-1]: one for one in COMMANDS[name].params if isinstance(one, click.Option)}
    assert options["--quiet"].opts == ["-q", "--quiet"] and options["--json"].opts == ["--json"]
    assert "--out" not in options or options["--out"].opts == ["-o", "--out"]
    for option, kind in (("--split", click.Choice), ("--method", click.Choice), ("--device", DeviceName)):
        assert option not in options or isinstance(options[option].type, kind), option


@pytest.mark.parametrize(
    ("words", "begun", "completed"),
    [
        ([], "faith", ["faithfulness"]),
        (["evaluate", "run", "--split"], "t", ["train", "test"]),
        (["train", "store", "--method"], "grad", ["gradcam", "gradcampp"]),
        (["explain", "run", "photos", "--device"], "c", ["cpu", "cuda", "cuda:0"]),
        (["landmarks", "faces.csv", "--detector"], "m", ["mediapipe"]),
    ],
)
def test_shells_complete_commands_and_choices(words: list[str], begun: str, completed: list[str]) -> None:
    shell = ShellComplete(cli.cli, {}, "aupipe", "_AUPIPE_COMPLETE")
    assert [one.value for one in shell.get_completions(words, begun)] == completed
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"_AUPIPE_COMPLETE={name}_source" in readme for name in ("bash", "zsh", "fish"))


def test_quiet_leaves_results_and_errors(store: Store, tmp_path: Path) -> None:
    for name, more in (("told", []), ("silent", ["--quiet"])):
        words = ["export", str(store.folder), "--to", "folder", "-o", str(tmp_path / name), *more]
        done = CliRunner().invoke(cli.cli, words)
        assert done.exit_code == 0 and "exported 84 rows" in done.stdout
        assert (done.stderr == "") is (name == "silent")
    refused = CliRunner().invoke(cli.cli, ["evaluate", "nowhere", "-q"])
    assert "does not exist" in str(refused.exception)
    wrong = CliRunner().invoke(cli.cli, ["evaluate", "nowhere", "--device", "gpu"])
    assert wrong.exit_code == 2 and "'gpu' is not one of auto, cpu, cuda or cuda:N" in wrong.output


def test_json_is_one_object_on_stdout(dataset: Dataset, tmp_path: Path, model: Path) -> None:
    built = aupipe("manifest", "build", "folder", dataset.root, "-o", tmp_path / "m.csv", "--json")
    assert json.loads(built.stdout)["ok"] == len(dataset.manifest.samples)
    done = aupipe("landmarks", tmp_path / "m.csv", "--out", tmp_path / "work", "--workers", 0, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert report["total"] == report["ok"] + sum(report["failed"].values()) and report["seconds"] > 0
    assert "landmarks" in done.stderr, "progress belongs on stderr"
    done = aupipe("build-maps", tmp_path / "work", "--out", tmp_path / "store", "--image-size", 64, "--map-size", 16,
                  "--workers", 0, "--json")  # fmt: skip
    assert json.loads(done.stdout)["ok"] == report["ok"]
    assert json.loads(aupipe("verify", tmp_path / "store", "--json").stdout) == {"ok": True, "findings": []}
    assert json.loads(aupipe("inspect", tmp_path / "store", "--json").stdout)["total"] == report["total"]


def test_landmarks_leave_something_to_look_at(built: Built, tmp_path: Path) -> None:
    done = aupipe("landmarks", built.dataset.path, "--out", tmp_path, "--workers", 0, "--sheet", "--export", "csv",
                  "--faces", "central", "--json")  # fmt: skip
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert read_drawing(Path(report["sheet"])).shape[1] >= 176
    assert "sheet.png" in Path(report["summary"]).read_text()
    assert len(Path(report["table"]).read_text().splitlines()) == report["total"] + 1
    agreement = aupipe("landmarks-agreement", tmp_path, tmp_path, "--out", tmp_path / "same", "--json")
    assert json.loads(agreement.stdout)["outcomes"]["both"] == report["ok"]
    assert (tmp_path / "same" / "agreement.csv").is_file()


def test_a_label_map_is_taken_from_the_command_line(dataset: Dataset, tmp_path: Path) -> None:
    done = aupipe("manifest", "build", "folder", dataset.root, "-o", tmp_path / "m.csv", "--json",
                  "--labels", "happiness=surprise,anger=anger", "--alias", "fear=drop")  # fmt: skip
    counts = json.loads(done.stdout)["counts"]["test"]
    assert counts == {"anger": 1, "disgust": 1, "surprise": 2, "sadness": 1, "neutral": 1}


def test_a_cluster_brings_its_own_workers(dataset: Dataset, tmp_path: Path) -> None:
    both = aupipe("landmarks", dataset.path, "--out", tmp_path, "--scheduler", "tcp://127.0.0.1:1", "--workers", 2)
    assert both.returncode == 2 and "--workers" in both.stderr


def test_libraries_do_not_chatter(dataset: Dataset, tmp_path: Path, model: Path) -> None:
    """A broken photo among good ones: progress and the summary, nothing of OpenCV's or MediaPipe's own."""
    done = aupipe("landmarks", dataset.path, "--out", tmp_path, "--workers", 0)
    assert done.returncode == 0
    assert [line for line in re.split(r"[\r\n]+", done.stderr) if line and not line.startswith("landmarks:")] == []


def test_too_many_failures_exit_3_and_keep_the_result(dataset: Dataset, tmp_path: Path, model: Path) -> None:
    done = aupipe("landmarks", dataset.path, "--out", tmp_path, "--workers", 0, "--max-failures", 0.01)
    assert done.returncode == 3 and "--max-failures" in done.stderr
    assert (tmp_path / "landmarks.json").exists()


def test_usage_errors_exit_2() -> None:
    assert aupipe("landmarks").returncode == 2
    assert aupipe("build-maps", "x", "--out", "y", "--workers", "-1").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["manifest", "build", "folder", "no/such/folder", "-o", "m.csv"], "no/such/folder"),
        (["manifest", "build", "fodler", ".", "-o", "m.csv"], "folder"),
        (["manifest", "check", "nowhere.csv"], "nowhere.csv"),
        (["landmarks", "nowhere.csv", "--out", "w"], "nowhere.csv"),
        (["landmarks-agreement", "nowhere", "elsewhere", "--out", "a"], "nowhere"),
        (["build-maps", "nowhere", "--out", "s"], "aupipe landmarks"),
        (["build-maps", "nowhere", "--out", "s", "--codebook", "defualt"], "Did you mean 'default'"),
        (["inspect", "nowhere"], "nowhere"),
        (["verify", "nowhere"], "nowhere does not exist"),
        (["codebook", "show", "mine.toml"], "mine.toml"),
        (["train", "nowhere", "--out", "r"], "nowhere does not exist"),
        (["evaluate", "nowhere"], "nowhere"),
        (["faithfulness", "nowhere"], "does not exist"),
        (["explain", "nowhere", ".", "--out", "e"], "no photos"),
        (["explain", "nowhere", "none.jpg", "--out", "e"], "none.jpg does not exist"),
        (["export-model", "nowhere", "--out", "m.onnx", "--to", "pt2"], "does not exist"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("own_handler")
def test_user_errors_are_one_paragraph_with_exit_1(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In this process, by the entry that a shell takes."""
    monkeypatch.chdir(tmp_path)
    done = calls.aupipe(*arguments)
    assert done.code == 1 and message in done.err
    assert "Traceback" not in done.err and (done.out, done.traceback) == ("", "")
    assert len([line for line in done.err.splitlines() if line]) == 1
    assert capfd.readouterr() == ("", ""), "a library said something"


@pytest.mark.parametrize(
    "arguments",
    [
        ["manifest", "build", "folder", "nowhere", "-o", "m.csv"],
        ["landmarks", "nowhere", "--out", "w"],
        ["explain", "nowhere", "nowhere", "--out", "e"],
    ],
)
def test_a_process_ends_with_the_same_paragraph(arguments: list[str], tmp_path: Path) -> None:
    done = aupipe(*arguments, cwd=tmp_path)
    assert done.returncode == 1 and "nowhere" in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert len([line for line in done.stderr.splitlines() if line]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "URL", "--out", "run", "--lr", "inf"], "--lr"),
        (["train", "URL", "--out", "run", "--seed", str(2**63)], "--seed"),
        (["benchmark", "URL", "--out", "grid", "--scale-jitter", "1", "--dry-run"], "--scale-jitter"),
        (["benchmark", "URL", "--out", "grid", "--align-weight", "x"], "--align-weight"),
        (["evaluate", "no-run", "--store", "URL"], "does not exist"),
        (["faithfulness", "no-run", "--store", "URL"], "does not exist"),
        (["report", "no-run", "--store", "URL", "--out", "r.html"], "does not exist"),
    ],
)
def test_options_are_checked_before_a_store_is_fetched(arguments: list[str], message: str) -> None:
    """Nothing answers at the URL: whoever asks it first says so."""
    url = "http://127.0.0.1:1/store"
    result = CliRunner().invoke(cli.cli, [url if one == "URL" else one for one in arguments])
    assert isinstance(result.exception, FerError) and message in str(result.exception)


def test_a_photo_is_not_written_over_by_a_picture(tmp_path: Path, built: Built) -> None:
    photo, sheet = tmp_path / "photo.png", tmp_path / "sheet.png"
    write_png(photo, np.zeros((8, 8, 3), np.uint8))
    before = photo.read_bytes()
    for arguments in (["inspect", str(built.store)], ["codebook", "show", "default"]):
        result = CliRunner().invoke(cli.cli, [*arguments, "--png", str(photo)])
        assert "was not written over" in str(result.exception) and photo.read_bytes() == before
        assert (
            CliRunner().invoke(cli.cli, [*arguments, "--png", str(sheet)]).exit_code == 0
        )  # the second time over ours


@pytest.mark.usefixtures("own_handler")
def test_ctrl_c_is_one_line_whatever_a_library_makes_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(**_: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise RuntimeError("initialization failed") from error

    monkeypatch.setattr(cli.cli, "main", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130 and capsys.readouterr().err.count("\n") == 1
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN, "another one does not break into the ending"


@pytest.mark.usefixtures("own_handler")
def test_names_that_the_terminal_cannot_show_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(sys, "argv", ["aupipe", "evaluate", os.fsdecode(b"r\xc3\xa9sum\xe9-\xff")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said.seek(0)
    assert ended.value.code == 1 and "does not exist" in said.read()


def test_a_scheduler_that_is_not_there_is_told(dataset: Dataset, tmp_path: Path, model: Path) -> None:
    done = aupipe("landmarks", dataset.path, "--out", tmp_path, "--scheduler", "tcp://127.0.0.1:1")
    assert done.returncode == 1 and "tcp://127.0.0.1:1" in done.stderr and "Traceback" not in done.stderr


def test_empty_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = aupipe("manifest", "build", "auto", tmp_path / "empty", "-o", tmp_path / "m.csv")
    assert done.returncode == 1 and "empty" in done.stderr


def test_damage_is_reported_with_the_sample(own: Built) -> None:
    shard = own.store / "test-00000.h5"
    data = bytearray(shard.read_bytes())
    offset = json.loads((own.store / "index.json").read_text())["shards"][-1]["offsets"]["image"]
    data[offset + 5] ^= 0x10
    shard.write_bytes(data)
    done = aupipe("verify", own.store)
    assert done.returncode == 1 and "test-00000.h5" in done.stdout and "test/" in done.stdout


def test_store_of_another_schema_is_refused(own: Built) -> None:
    index = own.store / "index.json"
    index.write_text(index.read_text().replace('"schema_version": "1.', '"schema_version": "7.'))
    for command in (["inspect", own.store], ["verify", own.store], ["build-maps", own.work, "--out", own.store]):
        done = aupipe(*command)
        assert done.returncode == 1 and "schema" in done.stderr


def test_doctor_finds_a_wrong_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "fake.task"
    fake.write_bytes(b"no")
    monkeypatch.setenv("AUPIPE_MODEL", str(fake))
    done = aupipe("doctor", "--json")
    checks = {check["name"]: check["ok"] for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1 and not checks["face model"] and checks["python"]


def test_a_library_that_cannot_be_loaded_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slim container lacks what OpenCV loads."""
    (tmp_path / "cv2.py").write_text('raise ImportError("libGL.so.1: cannot open shared object file")')
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", paths)
    (tmp_path / "m.csv").write_text("sample_id,path,label,source_label,split\na,a.png,fear,fear,train\n")
    checked, used = aupipe("doctor"), aupipe("landmarks", tmp_path / "m.csv", "--out", tmp_path / "work")
    assert checked.returncode == 1 and "libGL.so.1" in checked.stdout and "apt-get install" in checked.stdout
    assert used.returncode == 1 and "aupipe doctor" in used.stderr and "Traceback" not in used.stderr + checked.stderr


def test_doctor_only_looks_for_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aupipe.pipeline import doctor
    from aupipe.pipeline.detectors import model_file

    for name, value in {"AUPIPE_MODEL": "", "XDG_CACHE_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(model_file, "CARRIER", "no-such-distribution")
    monkeypatch.setattr(model_file, "_download", lambda: pytest.fail("downloads the model"))
    check = next(check for check in doctor.run_checks() if check.name == "face model")
    assert not check.ok and "not on this machine" in check.found and "Three ways to get it" in check.repair


def test_nothing_printed_steers_the_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "a\x1b[31mred"
    done = aupipe("inspect", folder)
    assert done.returncode == 1 and "\x1b" not in done.stderr and "a\\x1b[31mred" in done.stderr
    folder.mkdir()
    (folder / "faces.csv").write_text("sample_id,path,label,source_label,split\na\x1b[2J,a.png,fear,fear,train\n")
    done = aupipe("manifest", "check", folder / "faces.csv")
    assert done.returncode == 1 and "\x1b" not in done.stdout + done.stderr and "line 2" in done.stdout


def test_json_holds_any_name_and_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    show([], {"name": "\x1b[2J\x7f\x9b31m\nä"}, as_json=True)
    printed = capsys.readouterr().out
    assert printed.removesuffix("\n").isprintable() and json.loads(printed) == {"name": "\x1b[2J\x7f\x9b31m\nä"}


def test_doctor_knows_the_packages_of_every_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    from aupipe.pipeline import detectors, doctor

    assert {"dlib-bin", "face-recognition-models"} <= set(detectors.detector_packages()["dlib"])
    checks = {check.name: check for check in doctor.run_checks()}
    monkeypatch.setattr(detectors, "detector_packages", lambda: {"own": ("no-such-package", "numpy")})
    absent = {check.name: check for check in doctor.run_checks()}
    assert checks["dlib"].ok and absent["own"].ok and absent["own"].found == "not installed (optional: no-such-package)"


def test_installed_script_is_the_same_program() -> None:
    script = shutil.which("aupipe", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("aupipe is not installed beside this interpreter")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == f"aupipe, version {metadata.version('aupipe')}"
    assert all(version in second for version in (*SCHEMA_VERSIONS.values(), PART_VERSION))


def test_a_second_interrupt_ends_the_process_without_a_traceback() -> None:
    program = (
        "import os, signal\n"
        "from aupipe.commands import cli\n"
        "signal.signal(signal.SIGINT, cli._Interruption())\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "finally:\n    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 130 and done.stderr.strip() == cli._INTERRUPTED
