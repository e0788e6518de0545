from __future__ import annotations

import os
import signal
from pathlib import Path

# Before torch is loaded, here and in all that is started: its threads would take turns with those of other processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from aupipe.fer_data.shards import Store
from offline import built, dataset, model, own
from synthetic import synthetic_store, with_own_aus

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts jobs in the background deaf to Ctrl-C, and their children inherit it: tests send it to programs.
    signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = ["built", "dataset", "model", "own"]


def pytest_configure(config: pytest.Config) -> None:
    """Keep the order of the files where pytest-xdist deals them: it would begin with those of the most tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of slow tests: none of them is left to one process when the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The development data; tests that use it skip where it is absent."""
    folder = Path(os.environ.get("AUPIPE_SHARED", Path(__file__).parents[1] / ".." / "shared")).resolve()
    if not (folder / "faces").is_dir():
        pytest.skip("the development faces are not on this machine (set AUPIPE_SHARED)")
    return folder


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A small finished store that tests only read."""
    return synthetic_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def own_aus(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A small store whose faces have action units of their own, whatever their class."""
    return synthetic_store(tmp_path_factory.mktemp("own aus"), change=with_own_aus, config={"aus": "fused"})
