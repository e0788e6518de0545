from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import functools
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path

import fsspec
import pytest
from click.testing import CliRunner

from aupipe.commands.export import export
from aupipe.commands.inspect import inspect
from aupipe.commands.store import repair, verify
from aupipe.fer_analysis.benchmark.plan import GridRequest
from aupipe.fer_analysis.benchmark.run import BenchmarkSettings, estimate
from aupipe.fer_data.cache import cache_folder, cache_limit
from aupipe.fer_data.errors import StoreError, UserInputError
from aupipe.fer_data.shards import Store, open_store, remote, verify_store
from aupipe.fer_data.shards.remote import is_url, local_store
from aupipe.fer_data.types import Silent
from aupipe.fer_models.training.config import TrainConfig
from jpeg_store import jpeg_copy
from synthetic import synthetic_store

ROOT = Path(__file__).parents[2]
Fault = Callable[[str, int, bytes], bytes | None]


class Server:
    """A web server over a folder; ``fault(name, time, body)`` gives the body to send under the true length, or None
    for "not found"."""

    def __init__(self, folder: Path) -> None:
        self.asked: Counter[str] = Counter()
        self.fault: Fault = lambda name, time, body: body
        self.answers: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]] = {}
        self.headers: Message = Message()
        self.paths: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2].partition("?")[0]
                outer.asked[name] += 1
                outer.headers = self.headers
                outer.paths.append(self.path)
                if answer := outer.answers.get(name):
                    answer(self)
                    return
                body = (folder / name).read_bytes()
                sent = outer.fault(name, outer.asked[name], body)
                self.send_response(404 if sent is None else 200)
                self.send_header("Content-Length", str(0 if sent is None else len(body)))
                self.end_headers()
                self.wfile.write(sent or b"")

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/faces/store"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


small = functools.partial(synthetic_store, train=9, val=2, test=2, size=16, map_size=8, rows_per_shard=3)


@pytest.fixture
def origin(tmp_path: Path) -> Store:
    """Three training shards, one each for validation and test."""
    return small(tmp_path / "origin")


@pytest.fixture
def server(origin: Store) -> Iterator[Server]:
    server = Server(origin.folder)
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AUPIPE_CACHE_BYTES", raising=False)
    return tmp_path / "cache" / "stores"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def start(program: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys\nfrom aupipe.fer_data.shards.remote import local_store\n{program}",
         *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip


def run(program: str, *arguments: object, **environment: str) -> str:
    process = start(program, *arguments, **environment)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.strip()


COPY = "print(local_store(sys.argv[1]))"


# --- where a store may be ---


def test_a_folder_is_itself(origin: Store, cache: Path) -> None:
    assert local_store(origin.folder) == origin.folder
    assert local_store(str(origin.folder)) == origin.folder
    assert not cache.exists()


@pytest.mark.parametrize("kind", ["http", "file", "memory"])
def test_a_remote_store_is_the_same_store(origin: Store, server: Server, cache: Path, kind: str) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(f"{origin.folder}/", "/bucket/store/", recursive=True)
    url = {"http": server.url, "file": f"file://{origin.folder}", "memory": "memory://bucket/store"}[kind]
    folder = local_store(url + "/")
    memory.rm("/bucket", recursive=True)
    assert folder == cache / origin.index.digest
    assert content(folder) == content(origin.folder)
    assert verify_store(folder, rows=True) == []
    assert open_store(folder).split("train").sample_ids == origin.split("train").sample_ids


def test_nothing_is_fetched_twice(server: Server) -> None:
    assert local_store(server.url) == local_store(server.url)
    assert server.asked.pop("index.json") == 2
    assert set(server.asked.values()) == {1} and len(server.asked) == 5


def test_two_places_of_one_store_share_the_copy(origin: Store, server: Server) -> None:
    folder = local_store(server.url)
    assert local_store(f"file://{origin.folder}") == folder
    assert server.asked["train-00000.h5"] == 1


def test_side_files_come_along(tmp_path: Path, origin: Store) -> None:
    import dataclasses

    from aupipe.fer_data.files import sha256_file
    from aupipe.fer_data.shards.index import save_index

    (origin.folder / "failures.csv").write_text("sample_id,path,reason,detail\n")
    digest = sha256_file(origin.folder / "failures.csv")
    save_index(origin.folder, dataclasses.replace(origin.index, files={"failures.csv": digest}))
    assert content(local_store(f"file://{origin.folder}")) == content(origin.folder)


def test_a_store_built_anew_is_copied_anew(origin: Store, server: Server) -> None:
    first = local_store(server.url)
    rebuilt = small(origin.folder, seed=1)
    second = local_store(server.url)
    assert second != first and second.name == rebuilt.index.digest
    assert verify_store(second, rows=True) == [] == verify_store(first, rows=True)


# --- without the network ---


def test_the_copy_serves_when_the_place_does_not_answer(server: Server) -> None:
    folder, notes = local_store(server.url), Notes()
    server.stop()
    assert local_store(server.url, notes) == folder
    (note,) = notes.notes
    assert "does not answer" in note and "copy in the cache is used" in note
    with pytest.raises(StoreError, match=r"does not answer as it should.*refused"):
        local_store(server.url + "/other")


def test_a_half_copy_does_not_serve(server: Server) -> None:
    folder = local_store(server.url)
    (folder / "val-00000.h5").unlink()
    server.stop()
    with pytest.raises(StoreError, match="does not answer"):
        local_store(server.url)


def test_a_pinned_store_asks_nothing_once_it_is_there(origin: Store, server: Server) -> None:
    pinned = f"{server.url}#sha256={origin.index.digest}"
    folder = local_store(pinned)
    server.asked.clear()
    small(origin.folder, seed=1)
    assert local_store(pinned) == folder and not server.asked


def test_another_store_than_the_pinned_is_refused(origin: Store, server: Server, cache: Path) -> None:
    wanted = "0" * 64
    with pytest.raises(StoreError, match=f"Expected: {wanted}. Got: {origin.index.digest}"):
        local_store(f"{server.url}#sha256={wanted}")
    assert set(server.asked) == {"index.json"} and not list(cache.glob("*/index.json"))
    with pytest.raises(UserInputError, match="not a digest"):
        local_store(f"{server.url}#sha256=abc")


# --- damage ---


def flipped(body: bytes) -> bytes:
    return body[:5000] + bytes([body[5000] ^ 1]) + body[5001:]


@pytest.mark.parametrize("name", ["train-00001.h5", "index.json"])
@pytest.mark.parametrize("harm", [flipped, lambda body: body[:-700]], ids=["flipped", "cut"])
def test_damage_on_the_way_is_mended_by_asking_again(
    origin: Store, server: Server, name: str, harm: Callable[[bytes], bytes]
) -> None:
    if name == "index.json" and harm is flipped:
        server.fault = lambda asked, time, body: body.replace(b"happiness", b"hapqiness") if time == 1 else body
    else:
        server.fault = lambda asked, time, body: harm(body) if asked == name and time == 1 else body
    assert content(local_store(server.url)) == content(origin.folder)
    assert server.asked[name] == 2


@pytest.mark.parametrize("harm", [flipped, lambda body: body[:4096]], ids=["flipped", "cut"])
def test_lasting_damage_is_one_paragraph_and_what_arrived_is_kept(
    origin: Store, server: Server, cache: Path, harm: Callable[[bytes], bytes]
) -> None:
    server.fault = lambda name, time, body: harm(body) if name == "train-00001.h5" else body
    with pytest.raises(StoreError) as caught:
        local_store(server.url)
    message = str(caught.value)
    entry = next(entry for entry in origin.index.shards if entry.name == "train-00001.h5")
    assert re.match(r"train-00001\.h5 of a remote store did not arrive", message) and "\n" not in message
    assert f"{server.url}/train-00001.h5" in message and f"{entry.bytes} bytes, SHA-256 {entry.sha256}" in message
    assert "Got: " in message and "run the same command again" in message
    assert server.asked["train-00001.h5"] == 2
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    assert not (folder / "index.json").exists() and not list(folder.glob(".*.tmp"))
    server.fault = lambda name, time, body: body
    server.asked.clear()
    assert verify_store(local_store(server.url), rows=True) == []
    assert "test-00000.h5" not in server.asked and "train-00000.h5" not in server.asked
    assert server.asked["train-00001.h5"] == 1


def test_a_lastingly_damaged_index_names_the_place(server: Server) -> None:
    server.fault = lambda name, time, body: body.replace(b"happiness", b"hapqiness")
    with pytest.raises(StoreError, match=rf"digest does not fit\. Where: {server.url}/index\.json"):
        local_store(server.url)


def test_a_missing_store_or_shard_says_so(server: Server, tmp_path: Path) -> None:
    server.fault = lambda name, time, body: None if name == "val-00000.h5" else body
    with pytest.raises(StoreError, match=r"no readable val-00000\.h5 at the URL.*404"):
        local_store(server.url)
    with pytest.raises(StoreError, match=r"no readable index\.json at the URL"):
        local_store(f"file://{tmp_path}/nothing")


def test_an_index_that_names_files_outside_is_refused(origin: Store, tmp_path: Path, cache: Path) -> None:
    import dataclasses

    from aupipe.fer_data.shards.index import save_index

    stray = dataclasses.replace(origin.index.shards[0], name="../../stray.h5")
    shutil.copy(origin.folder / "train-00000.h5", tmp_path / "stray.h5")
    save_index(origin.folder, dataclasses.replace(origin.index, shards=(stray, *origin.index.shards[1:])))
    with pytest.raises(StoreError, match="names files outside the store"):
        local_store(f"file://{origin.folder}")
    assert not list(cache.rglob("*.h5")) and not (tmp_path / "cache" / "stray.h5").exists()


def test_a_shard_lost_from_the_cache_is_fetched_again(server: Server) -> None:
    folder = local_store(server.url)
    (folder / "train-00002.h5").write_bytes(b"short")
    server.asked.clear()
    assert verify_store(local_store(server.url)) == []
    assert dict(server.asked) == {"index.json": 1, "train-00002.h5": 1}


def test_a_copy_damaged_in_the_cache_is_fetched_again(origin: Store, server: Server) -> None:
    folder = local_store(server.url)
    shard = folder / "train-00002.h5"
    shard.write_bytes(flipped(shard.read_bytes()))
    (folder / "notes.txt").write_text("not of the store")
    checked = CliRunner().invoke(verify, [server.url], standalone_mode=False)
    assert checked.return_value == 1 and "train-00002.h5: not the bytes" in checked.stdout
    assert "This is the copy of a remote store: run `aupipe repair` with its URL" in checked.stderr
    server.asked.clear()
    pinned = f"{server.url}#sha256={origin.index.digest}"
    mended = CliRunner().invoke(repair, [pinned, "--json"], standalone_mode=False)
    assert json.loads(mended.stdout) == {"ok": True, "store": str(folder)}
    assert dict(server.asked) == {"index.json": 1, "train-00002.h5": 1}
    assert content(folder) == content(origin.folder)
    shard.write_bytes(flipped(shard.read_bytes()))
    server.stop()
    with pytest.raises(StoreError, match="does not answer"):  # a damaged copy must not pass for a mended one
        local_store(server.url, repair=True)


def test_a_folder_is_not_repaired_without_its_landmarks(origin: Store) -> None:
    refused = CliRunner().invoke(repair, [str(origin.folder)])
    assert refused.exit_code == 2 and "--from" in refused.stderr
    (origin.folder / "train-00000.h5").write_bytes(b"short")
    checked = CliRunner().invoke(verify, [str(origin.folder)], standalone_mode=False)
    assert "with the landmarks it was built from" in checked.stderr


def test_an_unknown_protocol_says_what_to_install() -> None:
    with pytest.raises(StoreError, match=r"No driver can open zebra://x/y.*pip install s3fs"):
        local_store("zebra://x/y")


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        local_store("http://me:secret@127.0.0.1:9/store")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("place", ["store", "./a:b/store", "/data/s3:/x", "C:/stores/one"])
def test_paths_are_no_urls(place: str) -> None:
    assert not is_url(place) and not is_url(Path(place))


# --- interruption and company ---


def test_a_killed_copy_is_continued(origin: Store, server: Server, cache: Path) -> None:
    gate = threading.Event()

    def slow(name: str, time: int, body: bytes) -> bytes:
        if name == "train-00001.h5" and time == 1:
            gate.wait(30)
        return body

    server.fault = slow
    process = start(COPY, server.url)
    deadline = time.monotonic() + 30
    while not server.asked["train-00001.h5"] and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    gate.set()
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    assert (folder / "train-00000.h5").is_file() and not (folder / "index.json").exists()
    assert list(folder.glob(".train-00001.h5.*.tmp"))
    assert content(local_store(server.url)) == content(origin.folder)
    assert server.asked["train-00000.h5"] == 1 and server.asked["train-00001.h5"] == 2


def test_processes_at_once_make_one_copy(origin: Store, server: Server) -> None:
    def slow(name: str, times: int, body: bytes) -> bytes:
        time.sleep(0.1)
        return body

    server.fault = slow
    processes = [start(COPY, server.url) for _ in range(3)]
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], results
    assert len({out for out, _ in results}) == 1
    assert content(Path(results[0][0].strip())) == content(origin.folder)
    assert server.asked["index.json"] == 3
    assert {count for name, count in server.asked.items() if name != "index.json"} == {1}


# --- room ---


def size(store: Store) -> int:
    text = (store.folder / "index.json").stat().st_size
    return sum(entry.bytes for entry in store.index.shards) + text


@pytest.fixture
def three(tmp_path: Path) -> list[Store]:
    return [small(tmp_path / f"s{number}", seed=number) for number in range(3)]


def present(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir() if path.is_dir()}


def test_the_longest_unused_makes_room(three: list[Store], cache: Path) -> None:
    for store in (three[0], three[1], three[0]):
        run(COPY, f"file://{store.folder}")
    limit = str(size(three[0]) + size(three[2]) + 10)
    run(COPY, f"file://{three[2].folder}", AUPIPE_CACHE_BYTES=limit)
    assert present(cache) == {three[0].index.digest, three[2].index.digest}
    assert not (cache / f"{three[1].index.digest}.use").exists() and not list(cache.glob(".*.leaving"))
    run(COPY, f"file://{three[1].folder}", AUPIPE_CACHE_BYTES=limit)
    assert present(cache) == {three[2].index.digest, three[1].index.digest}


def test_what_is_in_use_stays(three: list[Store], cache: Path) -> None:
    user = start(f"{COPY}\nsys.stdout.flush(); import time; time.sleep(60)", f"file://{three[0].folder}")
    assert user.stdout is not None and three[0].index.digest in user.stdout.readline()
    limit = str(size(three[1]) + 10)
    before = content(cache / three[0].index.digest)
    failed = start(COPY, f"file://{three[1].folder}", AUPIPE_CACHE_BYTES=limit)
    _, err = failed.communicate(timeout=60)
    assert failed.returncode == 1 and "does not fit into the cache" in err and "that are in use" in err
    assert content(cache / three[0].index.digest) == before
    user.kill()
    user.communicate()
    run(COPY, f"file://{three[1].folder}", AUPIPE_CACHE_BYTES=limit)
    assert present(cache) == {three[1].index.digest}


def test_a_store_larger_than_the_cache_removes_nothing(
    three: list[Store], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(COPY, f"file://{three[0].folder}")
    monkeypatch.setenv("AUPIPE_CACHE_BYTES", str(size(three[1]) - 1))
    with pytest.raises(StoreError, match=r"does not fit into the cache.*AUPIPE_CACHE_BYTES"):
        local_store(f"file://{three[1].folder}")
    assert present(cache) == {three[0].index.digest}


@pytest.mark.parametrize(
    ("text", "limit"), [("", 50 * 10**9), ("1000", 1000), ("8e9", 8 * 10**9), ("1.5 GB", 15 * 10**8)]
)
def test_the_limit_is_a_size(monkeypatch: pytest.MonkeyPatch, text: str, limit: int) -> None:
    monkeypatch.setenv("AUPIPE_CACHE_BYTES", text)
    assert cache_limit() == limit


def test_a_limit_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUPIPE_CACHE_BYTES", "plenty")
    with pytest.raises(UserInputError, match="Got: plenty"):
        cache_limit()


def test_the_cache_s_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("AUPIPE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "aupipe"


# --- what uses it ---


def test_jpeg_stores_travel_too(origin: Store, tmp_path: Path) -> None:
    packed = jpeg_copy(origin, tmp_path / "packed")
    folder = local_store(f"file://{packed.folder}")
    assert content(folder) == content(packed.folder)
    assert bytes(open_store(folder).split("val").jpeg_bytes(1)) == bytes(packed.split("val").jpeg_bytes(1))


def test_a_full_disk_here_is_not_blamed_on_the_server(origin: Store, server: Server) -> None:
    limit = (origin.folder / "index.json").stat().st_size + 10
    assert limit < min(entry.bytes for entry in origin.index.shards)
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))\n"
    process = start(limited + COPY, server.url)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "Could not write" in err and "File too large" in err
    assert set(server.asked.values()) == {1}


def test_commands_take_a_url(origin: Store, server: Server, tmp_path: Path) -> None:
    shown_here = CliRunner().invoke(inspect, [str(origin.folder), "--json"])
    shown_there = CliRunner().invoke(inspect, [server.url, "--json"])
    assert shown_there.exit_code == 0, shown_there.output
    assert json.loads(shown_there.stdout) == json.loads(shown_here.stdout)
    done = CliRunner().invoke(export, [server.url, "--to", "webdataset", "--out", str(tmp_path / "tars")])
    assert done.exit_code == 0 and "exported 13 rows (9 train, 2 val, 2 test)" in done.stdout
    with pytest.raises(StoreError, match="no readable index"):
        CliRunner().invoke(inspect, [f"file://{tmp_path}/nowhere"], catch_exceptions=False, standalone_mode=False)


# --- servers that mean harm, and secrets ---


def test_a_server_that_sends_more_than_the_index_says_fills_no_disk(server: Server, cache: Path) -> None:
    sent = 0

    def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            while sent < 2**28:
                sent += handler.wfile.write(bytes(2**20))

    server.answers["train-00001.h5"] = endless
    with pytest.raises(StoreError, match=r"train-00001.h5 .* did not arrive .*Got: more than \d+ bytes"):
        local_store(server.url)
    assert sent < 2**26 and not list(cache.rglob(".*.tmp"))
    sent = 0
    server.answers["index.json"] = endless
    with pytest.raises(StoreError, match="too long to be one"):
        local_store(server.url)
    assert sent < 2**28


def test_a_server_that_trickles_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PATIENCE", 0.3)

    def trickle(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(200):
                handler.wfile.write(b" ")
                time.sleep(0.05)

    server.answers["index.json"] = trickle
    begun = time.monotonic()
    with pytest.raises(StoreError, match="comes too slowly"):
        local_store(server.url)
    assert time.monotonic() - begun < 5


def test_name_and_password_of_a_url_are_sent_and_not_shown(server: Server, origin: Store) -> None:
    url = server.url.replace("//", "//me:s%40cret@") + "?token=hidden"
    assert local_store(url).name == origin.index.digest
    assert server.headers["Authorization"] == f"Basic {base64.b64encode(b'me:s@cret').decode()}"
    assert server.paths[-1].endswith(".h5?token=hidden")
    server.stop()
    notes = Notes()
    local_store(url, notes)
    with pytest.raises(StoreError) as caught:
        local_store(url + "x")
    for said in (*notes.notes, str(caught.value)):
        assert "127.0.0.1" in said and not re.search("cret|hidden", said)


def test_a_password_is_not_sent_on_to_another_server(server: Server, origin: Store) -> None:
    other = Server(origin.folder)

    def elsewhere(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"{other.url}/index.json")
        handler.end_headers()

    server.answers["index.json"] = elsewhere
    local_store(server.url.replace("//", "//me:secret@"))
    other.stop()
    assert other.paths and other.headers["Authorization"] is None
    assert server.headers["Authorization"] is not None


def test_a_url_is_asked_as_people_may_write_it(server: Server) -> None:
    local_store(server.url.replace("/faces/", "/mine und Göttingen/"))
    assert server.paths[0] == "/mine%20und%20G%C3%B6ttingen/store/index.json"
    local_store(server.url.replace("/faces/", "/mine%20too/"))
    assert server.paths[-1].startswith("/mine%20too/store/")


def test_a_cache_on_a_disk_without_locks_names_the_way_out(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", without)
    with pytest.raises(StoreError, match=r"has no locks.*Set AUPIPE_CACHE to a folder on a local disk"):
        local_store(server.url)


def test_a_grid_on_folds_asks_with_the_password(server: Server, tmp_path: Path) -> None:
    def checked(handler: http.server.BaseHTTPRequestHandler) -> None:
        if handler.headers["Authorization"] is None:
            handler.send_error(401)
            return
        body = (tmp_path / "origin" / "index.json").read_bytes()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    server.answers["index.json"] = checked
    base = TrainConfig(backbone="test_resnet", crop_size=14, fold="1/3", epochs=1, batch_size=2)
    request, url = GridRequest(("cam",), 1, base=base), server.url.replace("//", "//me:secret@")
    planned = estimate(url, tmp_path / "grid", request, BenchmarkSettings(1, 1))
    assert len(planned.runs) == 2 and all(name.endswith(".h5") or name == "index.json" for name in server.asked)
