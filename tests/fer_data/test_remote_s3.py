"""A store in object storage: a server with the S3 protocol on this machine, where one is installed
(``pip install s3fs 'moto[server]'``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aupipe.fer_data.errors import StoreError
from aupipe.fer_data.shards import Store, verify_store
from aupipe.fer_data.shards.remote import local_store
from synthetic import synthetic_store

s3fs = pytest.importorskip("s3fs", reason="the package s3fs is not installed")
moto = pytest.importorskip("moto.server", reason="the package moto is not installed")

pytestmark = pytest.mark.filterwarnings("ignore")  # what these packages warn of is theirs


@pytest.fixture
def origin(tmp_path: Path) -> Store:
    return synthetic_store(tmp_path / "origin", train=4, val=2, test=2, size=16, map_size=8, rows_per_shard=3)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """One server for all tests: the driver keeps its connections."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(origin: Store, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of the store."""
    environment = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AUPIPE_CACHE": str(tmp_path / "cache"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    files = s3fs.S3FileSystem()
    if not files.exists("faces"):
        files.mkdir("faces")
    files.put(f"{origin.folder}/", "faces/store/", recursive=True)
    return "s3://faces/store"


def test_a_store_in_a_bucket_is_the_same_store(origin: Store, bucket: str) -> None:
    folder = local_store(bucket)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in origin.folder.iterdir()
    }
    assert verify_store(folder, rows=True) == []


def test_a_damaged_object_and_a_missing_bucket_say_so(bucket: str) -> None:
    s3fs.S3FileSystem().pipe("faces/store/val-00000.h5", b"short")
    with pytest.raises(StoreError, match=r"val-00000\.h5 of a remote store did not arrive .*Got: 5 bytes"):
        local_store(bucket)
    with pytest.raises(StoreError, match=r"no readable index\.json at the URL\. Where: s3://nowhere/store"):
        local_store("s3://nowhere/store")
