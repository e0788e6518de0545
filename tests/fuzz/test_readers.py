"""The list of attacked files against the code: whoever reads a file is in the list, with the kinds that it reads."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from fuzz.kinds import TARGETS
from fuzz.readers import OURS, READERS, READING

ROOT = Path(__file__).parents[2]
ROOMS = ("aupipe", "commands", "fer_analysis", "fer_data", "fer_demo", "fer_display", "fer_models", "pipeline")


def reading_modules() -> dict[str, set[str]]:
    """The modules that call something of :data:`READING`, and what."""
    found: dict[str, set[str]] = {}
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (name := _called(node.func)) in READING:
                found.setdefault(path.relative_to(ROOT).as_posix(), set()).add(name)
    return found


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def test_every_module_that_reads_a_file_is_listed() -> None:
    listed = READERS.keys() | OURS.keys()
    assert reading_modules().keys() - listed == set(), "say in fuzz/readers.py what they read"
    assert not READERS.keys() & OURS.keys()


def test_every_attacked_kind_has_its_reader() -> None:
    read = {kind for kinds in READERS.values() for kind in kinds}
    families = {kind.partition(" (")[0].removeprefix("benchmark's ") for kind in read}
    assert {t.kind for t in TARGETS if t.kind.partition(" (")[0].removeprefix("benchmark's ") not in families} <= {
        "face model", "comparison.json",
    }  # fmt: skip


@pytest.mark.parametrize("module", READERS)
def test_what_a_module_reads_is_attacked(module: str) -> None:
    attacked = {target.kind for target in TARGETS}
    assert READERS[module] and set(READERS[module]) <= attacked, set(READERS[module]) - attacked
