"""Changes to the files of a run, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aupipe.fer_data.recorded import DIGESTS, write_recorded


def rewrite(path: Path, drop: str = "", **changes: Any) -> None:
    """Change or drop entries of a JSON file as if they had been written so."""
    content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    content.pop(drop, None)
    write_recorded(path, json.dumps(content).encode())


def forget_digests(folder: Path) -> None:
    """Make a folder one of an earlier version, which kept no digests."""
    (folder / DIGESTS).unlink()
