from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import aupipe.fer_analysis


def test_no_class_name_means_two_things() -> None:
    folder = Path(aupipe.fer_analysis.__file__).parent
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in folder.rglob("*.py")]
    names = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert len(names) > 30
    assert [name for name, count in names.items() if count > 1] == []
