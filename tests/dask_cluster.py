"""A Dask cluster for tests, started as a user starts one: a scheduler and worker processes of their own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
EVERYTHING = os.pathsep.join(str(ROOT / folder) for folder in (".house", "tests", "tests/pipeline"))
"""Import path that has the packages and the test modules."""


class Cluster:
    """A scheduler on a free port of this machine, without workers at first."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._processes = folder, list[subprocess.Popen[bytes]]()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{port}"
        self.scheduler = self._start(["scheduler", "--host", "127.0.0.1", "--port", str(port)], EVERYTHING)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return
            time.sleep(0.1)
        raise AssertionError("the scheduler did not start")

    def add_workers(self, count: int, path: str = EVERYTHING) -> None:
        """Start ``count`` worker processes with a nanny each; ``path`` is what they can import."""
        self._start(["worker", self.address, "--nthreads", "1", "--nworkers", str(count)], path)

    def close(self) -> None:
        """End everything."""
        for process in self._processes:
            process.kill()  # worker processes end with their nannies
            process.wait()

    def _start(self, words: list[str], path: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *words, "--no-dashboard"],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(process)
        return process
