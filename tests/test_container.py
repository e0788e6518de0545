"""The container does what README's first command does, and carries what the libraries load."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]


def instructions() -> list[tuple[str, str]]:
    """The container file's instructions in order, continued lines joined."""
    text = (ROOT / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def commands(line: str) -> list[list[str]]:
    return [shlex.split(part) for part in line.split("&&")]


def test_its_commands_are_those_of_the_readme() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    expected = commands(blocks[0])
    found = instructions()
    ran = [
        command for name, line in found if name == "RUN" for command in commands(line) if ".venv" in " ".join(command)
    ]
    (shown,) = [json.loads(line) for name, line in found if name == "CMD"]
    done = [[word for word in command if word != "--no-cache-dir"] for command in ran]
    assert [*done, shown] == [*expected[:-1], [f"/aupipe/{expected[-1][0]}", *expected[-1][1:]]]


def test_it_runs_as_an_ordinary_user() -> None:
    names = [name for name, _ in instructions()]
    users = [line for name, line in instructions() if name == "USER"]
    assert users == ["aupipe"] and names.index("USER") < names.index("COPY") < names.index("CMD")
    assert "useradd --create-home aupipe" in next(line for name, line in instructions() if "useradd" in line)


def test_its_python_is_one_that_the_project_takes() -> None:
    (image,) = [line for name, line in instructions() if name == "FROM"]
    version = re.search(r"python:3\.(\d+)-slim$", image)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lowest = re.search(r'requires-python = ">=3\.(\d+)"', project)
    assert version is not None and lowest is not None and int(version[1]) >= int(lowest[1])
    assert (ROOT / ".ci" / "constraints.txt").is_file()


def test_what_is_cited_is_this_version() -> None:
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for key in ("version", "license"):
        stated = re.search(rf'^{key} = "([^"]+)"', project, re.MULTILINE)
        assert stated is not None and re.search(rf"^{key}: {re.escape(stated[1])}$", cited, re.MULTILINE)
    paper = re.search(r'^Paper = "([^"]+)"', project, re.MULTILINE)
    assert paper is not None and f'url: "{paper[1]}"' in cited
