"""Every file that the program reads, damaged: the same result or one paragraph, never anything else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from fuzz import attack, mutations
from fuzz.attack import Outcome, cases, count_faults, mutations_of, run_attacks, table
from fuzz.kinds import TARGETS, Target

SEED = 0
LEAST = 2_000


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a process of its own: this one keeps its folder, its threads and its loaded libraries."""
    folder = tmp_path_factory.mktemp("attacks") / "scene"
    folder.mkdir()
    code = f"from pathlib import Path; from fuzz.scene import build_scene; build_scene(Path({str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def told(faults: list[Outcome]) -> str:
    return "\n\n".join(map(str, faults[:20])) + f"\n{len(faults)} faults"


def fast_count(target: Target) -> int:
    """How many cases of a target belong to every run of the tests.

    Many of what takes milliseconds, every mutation once where a whole store is read, one of what takes longer.
    """
    if target.cost > 0.1:
        return 1
    return len(mutations_of(target)) if target.command[0] in ("verify", "export") else 33


@pytest.mark.slow
def test_no_attack_gets_through(scene: Path) -> None:
    chosen = [case for target in TARGETS for case in cases(target, fast_count(target), SEED)]
    assert len(chosen) >= LEAST
    outcomes = list(run_attacks(scene, chosen))
    print("\n".join(table(outcomes)))
    assert len(outcomes) == len(chosen)
    faults = count_faults(outcomes)
    assert not faults, told(faults)


PLANTED = {
    "careful": "refused", "robust": "same", "believing": "undetected", "writing": "undetected", "crude": "traceback",
    "wordy": "traceback", "destructive": "lost", "crashing": "hang", "endless": "hang",
}  # fmt: skip


def planted(command: str, *, own: bool = True) -> Target:
    return Target("planted", "m.csv", (f"fuzz.planted:{command}", "m.csv"), "csv", "two.csv", own)


@pytest.mark.slow
def test_the_judge_finds_planted_faults(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack, "PATIENCE", 3.0)
    chosen = [case for command in PLANTED for case in cases(planted(command), 1 + (command != "endless"), SEED)]
    chosen += cases(planted("believing", own=False), 2, SEED)
    outcomes = list(run_attacks(scene, chosen))
    assert len(outcomes) == len(chosen)
    found = {(one.case.target.own, one.case.target.command[0]): one.verdict for one in outcomes}
    expected = {(True, f"fuzz.planted:{command}"): verdict for command, verdict in PLANTED.items()}
    assert found == {**expected, (False, "fuzz.planted:believing"): "other"}, told(outcomes)
    assert all(f"seed '{SEED}." in str(one) and "fuzz.planted:" in str(one) for one in outcomes)


def test_a_case_is_repeated_from_its_seed() -> None:
    data = b'{"a": [1, 2.5, "text"], "b": {"c": null}}\n'
    for name, change in mutations.JSON.items():
        made = [mutations.changed_by(change, data, Random("0.3"), b'{"b": 1}') for _ in range(2)]
        assert made[0] == made[1] != data, name


@pytest.mark.parametrize("target", TARGETS[:1] + tuple(t for t in TARGETS if t.family in ("pt", "shard", "part"))[:3])
def test_every_mutation_comes_once_before_one_comes_twice(target: Target) -> None:
    names = mutations_of(target)
    drawn = [case.mutation for case in cases(target, 2 * len(names), SEED)]
    assert sorted(drawn[: len(names)]) == sorted(drawn[len(names) :]) == sorted(names)
