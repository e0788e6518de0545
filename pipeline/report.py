"""What every stage leaves behind: failures listed one by one."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from aupipe.fer_data.files import sha256_bytes, write_text
from aupipe.fer_data.types import Failure

FAILURES_NAME = "failures.csv"


def write_failures(folder: Path, failures: Iterable[Failure]) -> str:
    """Write ``failures.csv`` (unless the same one is there), sorted by sample id; return its SHA-256."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["sample_id", "path", "reason", "detail"])
    for failure in sorted(failures, key=lambda failure: failure.sample_id):
        writer.writerow([failure.sample_id, failure.path, failure.reason, failure.detail])
    text = buffer.getvalue()
    path = folder / FAILURES_NAME
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)
    return sha256_bytes(text.encode())
