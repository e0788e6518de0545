"""The report of every stage: failures listed one by one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aupipe.fer_data.files import sha256_bytes, write_bytes
from aupipe.fer_data.types import Failure
from aupipe.fer_display.tables import csv_text

FAILURES_NAME = "failures.csv"


def write_failures(folder: Path, failures: Iterable[Failure]) -> str:
    """Write ``failures.csv`` (unless the same one is there), sorted by sample id; return its SHA-256."""
    ordered = sorted(failures, key=lambda failure: failure.sample_id)
    rows = ((failure.sample_id, failure.path, failure.reason, failure.detail) for failure in ordered)
    text = csv_text(("sample_id", "path", "reason", "detail"), rows)
    path = folder / FAILURES_NAME
    data = text.encode("utf-8", "backslashreplace")  # a path that is not UTF-8
    if not path.is_file() or path.read_bytes() != data:
        write_bytes(path, data)
    return sha256_bytes(data)
