"""Attacks carried out: damage one file of the scene, run a command that reads it, judge what came of it.

Every case runs in a process of its own kind, with a limit of time and memory: a library that crashes or hangs is a
verdict like the others. A case is repeated from its target, its mutation and its seed alone.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import json
import os
import re
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from random import Random
from typing import Any

from aupipe.fer_data.processes import Death, Message, Worker
from fuzz import forging, mutations
from fuzz.calls import Said, aupipe, call
from fuzz.kinds import Target

VERDICTS = ("same", "other", "refused", "lost", "undetected", "traceback", "hang")
"""The same result as undamaged; another right input, read as such; a paragraph; files lost on the way; another result
without a word; a traceback; no end, or the end of the process."""

FAULTS = VERDICTS[3:]

PATIENCE, FIRST_PATIENCE = 30.0, 120.0
"""Seconds for a case, and for a command to run undamaged, in a process that may have to import everything first."""

MEMORY = 16 * 2**30
VOLATILE = frozenset({"seconds", "train_seconds", "parts_skipped", "images_per_second", "bytes"})
"""Keys of a result that say how long it took, how much of the work was there already, or how large a file became."""

BESIDE = r"^cache-|(digests\.json|export\.json|\.html|log\.csv|log\.jsonl|results\.(csv|md))$"
"""Files that hold times, or say how far a command is: no part of its result."""


@dataclass(frozen=True)
class Case:
    """One attack: its target, the mutation, the seed of the random numbers."""

    target: Target
    mutation: str
    seed: str

    def __str__(self) -> str:
        target = self.target
        words = " ".join(map(str, target.command))
        return f"{target.kind} ({target.path}), mutation {self.mutation!r}, seed {self.seed!r}, command: aupipe {words}"


@dataclass(frozen=True)
class Outcome:
    """What came of a case: one of :data:`VERDICTS`, and what is needed to see why."""

    case: Case
    verdict: str
    detail: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.verdict}: {self.case}\n{self.detail}"


@functools.cache
def mutations_of(target: Target) -> tuple[str, ...]:
    """The names of the mutations that fit a target."""
    edits = {"shard": forging.SHARD_EDITS, "part": forging.PART_EDITS, "pt": forging.PT}
    return tuple(edits.get(target.family) or mutations.FAMILIES[target.family])


def cases(target: Target, count: int, seed: int) -> list[Case]:
    """Draw cases of a target: every mutation once, in any order, before one comes twice."""
    rng, names = Random(f"{seed} {target.path} {target.command} {target.title}"), list[str]()
    while len(names) < count:
        round_of = list(mutations_of(target))
        rng.shuffle(round_of)
        names += round_of
    return [Case(target, name, f"{seed}.{number}") for number, name in enumerate(names[:count])]


# --- in the process of the attacks ---


@dataclass(eq=False)
class Scene:
    """The scene's own copy, with what lies in it; every attack leaves it as it was."""

    folder: Path
    files: dict[str, bytes]
    stats: dict[str, os.stat_result]

    @classmethod
    def copy(cls, scene: Path) -> Scene:
        folder = scene.with_name(f"{scene.name}-{os.getpid()}")
        shutil.copytree(scene, folder)
        stats = _walk(folder)
        return cls(folder, {name: (folder / name).read_bytes() for name in stats}, stats)

    def changed(self, since: dict[str, os.stat_result]) -> dict[str, bytes | None]:
        """Files touched since then whose content is not that of the scene; None for those that are gone."""
        now = _walk(self.folder)
        touched = [name for name, stat in now.items() if name not in since or _differ(stat, since[name])]
        found: dict[str, bytes | None] = {name: (self.folder / name).read_bytes() for name in touched}
        found |= dict.fromkeys(since.keys() - now.keys())
        return {
            name: data for name, data in found.items() if data != self.files.get(name, b"") or name not in self.files
        }

    def restore(self) -> None:
        now = _walk(self.folder)
        for name in now.keys() - self.files.keys():
            (self.folder / name).unlink()
        for name, data in self.files.items():
            if name not in now or _differ(now[name], self.stats[name]):
                path = self.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                path.write_bytes(data)
                os.utime(path, ns=(self.stats[name].st_atime_ns, self.stats[name].st_mtime_ns))
                self.stats[name] = path.stat()
        shutil.rmtree(self.folder / "new", ignore_errors=True)


def _walk(folder: Path) -> dict[str, os.stat_result]:
    found: dict[str, os.stat_result] = {}
    left = [(str(folder), "")]
    while left:
        place, prefix = left.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    left.append((entry.path, f"{prefix}{entry.name}/"))
                elif entry.name != ".lock":
                    found[prefix + entry.name] = entry.stat(follow_symlinks=False)
    return found


def _differ(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_size, one.st_mtime_ns, one.st_ino) != (other.st_size, other.st_mtime_ns, other.st_ino)


@functools.cache
def _own_scene(scene: Path) -> Scene:
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    own = Scene.copy(scene)
    os.chdir(own.folder)
    return own


Result = tuple[int, Any, dict[str, str]]
"""What a command gives: its exit code, what it prints, and the digests of the files it leaves."""


_CALLS = itertools.count()


@functools.cache
def _undamaged(scene: Scene, command: tuple[object, ...]) -> tuple[Said, Result]:
    try:
        return _run(scene, command)
    finally:
        scene.restore()


def attack(job: tuple[Path, Sequence[Case]], tell: Callable[[Outcome | None], None]) -> None:
    """Run the cases' command undamaged, then each case; ``tell`` the outcome of each, and None before the first."""
    folder, some = job
    scene = _own_scene(folder)
    said, right = _undamaged(scene, some[0].target.command)
    tell(None)
    for case in some:
        if said.code or said.traceback or case.target.path not in scene.files:
            tell(Outcome(case, "traceback", f"undamaged, the command fails or has no such file: {said}"))
            continue
        begun = time.process_time()
        try:
            outcome = _judge(scene, case, right)
        except Exception as error:
            raise RuntimeError(f"the attack itself failed: {case}") from error
        finally:
            scene.restore()
        tell(replace(outcome, seconds=time.process_time() - begun))


def _run(scene: Scene, command: tuple[object, ...]) -> tuple[Said, Result]:
    before = _walk(scene.folder)
    os.environ["AUPIPE_CACHE"] = f"cache-{next(_CALLS)}"  # what a process copied it takes for held until it ends
    words = [str(word).replace("{here}", str(scene.folder)) for word in command]
    said = call(*words) if ":" in words[0] else aupipe(*words, "--json")
    found = scene.changed(before)
    left = {name: _content(name, data) for name, data in found.items() if not re.search(BESIDE, name)}
    try:
        printed = _steady(json.loads(said.out))
    except ValueError:
        printed = said.out
    if words[0] == "bench-loader":
        printed = None  # nothing but times
    return said, (said.code, printed, left)


def _content(name: str, data: bytes | None) -> str:
    """What a file says, without the times it may hold."""
    if data is None:
        return "gone"
    if name.endswith(".pt"):
        import torch

        weights = torch.load(io.BytesIO(data), weights_only=True)["model"]
        data = b"".join(weights[key].numpy().tobytes() for key in sorted(weights))
    if name.endswith("landmarks.json"):
        data = json.dumps({**json.loads(data), "part_digests": {}}).encode()  # a part's bytes, not its points
    if name.endswith(".ts"):
        data = b""
    return hashlib.sha256(data).hexdigest()


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _steady(inner) for key, inner in value.items() if key not in VOLATILE}
    return [_steady(inner) for inner in value] if isinstance(value, list) else value


def _judge(scene: Scene, case: Case, right: Result) -> Outcome:
    target = case.target
    damage(target, case)
    touched = [
        name
        for name, stat in _walk(scene.folder).items()
        if name not in scene.stats or _differ(stat, scene.stats[name])
    ]
    said, result = _run(scene, target.command)
    lost = [
        name
        for name in result[2]
        if name in scene.files and name not in touched and result[2][name] != right[2].get(name)
    ]
    shown = f"exit {said.code}\n{said.out[-800:]}\n{said.err[-1500:]}\n{said.traceback[-3000:]}"
    if said.traceback or "Traceback" in said.err or (said.code == 0 and "Warning: " in said.err):
        return Outcome(case, "traceback", shown)
    if said.code in (1, 3) and (said.code, result[1]) != right[:2]:
        if not _is_told(target, said):
            return Outcome(case, "traceback", f"not one paragraph: {shown}")
        return Outcome(case, "lost", f"lost: {lost}\n{shown}") if lost else Outcome(case, "refused", shown)
    if said.code:
        return Outcome(case, "traceback", f"unexpected exit code: {shown}")
    if result == right:
        return Outcome(case, "same")
    if _is_named(target, said, right):
        return Outcome(case, "refused", shown)
    return Outcome(case, "undetected" if target.own else "other", _difference(right, result) + shown)


def _is_named(target: Target, said: Said, right: Result) -> bool:
    """Tell whether a command that did what it could names the file, which it does not where the file is sound."""
    name, before, now = Path(target.path).name, json.dumps(right[1]), said.out + said.err
    if target.command[0] == "benchmark":  # a run that cannot be used counts as one that is not finished
        return int(json.loads(said.out)["finished"]) < int(right[1]["finished"])
    return now.count(name) > before.count(name) or now.count("damaged") > before.count("damaged")


def _is_told(target: Target, said: Said) -> bool:
    """Tell whether a refusal says why: one paragraph on stderr, a list on stdout, the share of failures."""
    if said.code == 3:
        named = target.command[0] == "benchmark" and bool(json.loads(said.out)["failed"])
        return named or "--max-failures" in said.err or "Not one image is left of" in said.err
    told = re.search(r"aupipe: (.+)((?:\n|\r).*)*\Z", said.err)
    after = told[0].splitlines()[1:] if told else []
    one = told is not None and all(not line.strip() or "it/s]" in line or "/s]" in line for line in after)
    return one or (target.command[0] in LISTS and bool(said.out.strip()))


LISTS = frozenset({"verify", "manifest", "codebook"})
"""Commands that list what is wrong on stdout."""


def _difference(right: Any, result: Any) -> str:
    lines = [
        f"files: {name}" for name in right[2].keys() | result[2].keys() if right[2].get(name) != result[2].get(name)
    ]
    if right[1] != result[1]:
        one, two = (
            {str(k): v for k, v in r[1].items()} if isinstance(r[1], dict) else {"": r[1]} for r in (right, result)
        )
        lines += [
            f"{key}: {str(one.get(key))[:300]} became {str(two.get(key))[:300]}"
            for key in sorted(one.keys() | two.keys())
            if one.get(key) != two.get(key)
        ]
    return "\n".join(lines) + "\n"


def damage(target: Target, case: Case) -> None:
    """Do the case's damage in the folder that is worked in."""
    path, rng = Path(target.path), Random(case.seed)
    if target.family in ("shard", "part"):
        (forging.forge_shard if target.family == "shard" else forging.forge_part)(case.mutation, path, rng)
        return
    twin = Path(target.twin).read_bytes() if target.twin else b""
    change = forging.PT[case.mutation] if target.family == "pt" else mutations.FAMILIES[target.family][case.mutation]
    data = mutations.changed_by(change, path.read_bytes(), rng, twin)
    path.unlink()  # another file, never the same one changed: no other name shares its bytes
    path.write_bytes(data)
    if target.forged:
        forging.make_right(path)


# --- in the first process ---


def run_attacks(scene: Path, some: Iterable[Case], processes: int = 2) -> Iterator[Outcome]:
    """Carry out cases in so many processes; yield the outcomes as they come."""
    by_command: dict[tuple[object, ...], list[Case]] = {}
    for case in some:
        by_command.setdefault(case.target.command, []).append(case)
    queue, busy = list(by_command.values())[::-1], dict[Any, _Busy]()
    workers = [Worker[Any, Outcome | None, None](attack) for _ in range(processes)]
    idle = list(workers)
    try:
        while queue or busy:
            while queue and idle:
                one = _Busy(idle.pop(), queue.pop())
                one.worker.give((scene, one.left))
                busy[one.worker.connection] = one
            ready = wait(list(busy), timeout=1.0)
            for connection, one in list(busy.items()):
                said = one.worker.receive() if connection in ready else one.late()
                if isinstance(said, Message):
                    one.begin(one.left[said.what is not None :], PATIENCE)
                    if said.what is not None:
                        yield said.what
                elif said is not None:
                    del busy[connection]
                    idle.append(one.worker)
                    if isinstance(said, Death):
                        yield Outcome(one.left[0], "hang", f"{said}, after {said.seconds:.0f} s")
                        queue += [one.left[1:]] if one.left[1:] else []
    finally:
        for worker in workers:
            worker.end()


class _Busy:
    """A process with the cases that are left to it; the first of them is in progress."""

    def __init__(self, worker: Worker[Any, Outcome | None, None], left: list[Case]) -> None:
        self.worker = worker
        self.begin(left, FIRST_PATIENCE)

    def begin(self, left: list[Case], patience: float) -> None:
        self.left, self.patience = left, patience
        self.deadline = time.monotonic() + patience

    def late(self) -> Death | None:
        """End the process when its time is up."""
        if time.monotonic() < self.deadline:
            return None
        self.worker.end()
        return Death(-9, self.patience)


def table(outcomes: Iterable[Outcome]) -> list[str]:
    """The table: a line for each kind of file and command, and their sum."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for one in outcomes:
        target = one.case.target
        counts.setdefault((target.title, target.name), Counter())[one.verdict] += 1
    total = sum(counts.values(), Counter[str]())
    heads = ("kind of file", "command", "tries", *VERDICTS)
    rows = [(*key, str(found.total()), *(str(found[name]) for name in VERDICTS)) for key, found in counts.items()]
    rows.append(("all", "", str(total.total()), *(str(total[name]) for name in VERDICTS)))
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    return [
        "  ".join(
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (heads, *rows)
    ]


def count_faults(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes that must not be."""
    return [one for one in outcomes if one.verdict in FAULTS]
