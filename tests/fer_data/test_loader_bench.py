from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from aupipe.commands.bench import bench_loader
from aupipe.fer_data.errors import UserInputError
from aupipe.fer_data.loading.bench import MEASURES, measure_store
from aupipe.fer_data.loading.speed import LoadReport, memcpy_limit
from aupipe.fer_data.shards import Store


def test_the_command_measures_every_setting(store: Store) -> None:
    done = CliRunner().invoke(bench_loader, [str(store.folder), "--batch-size", "16", "--repeats", "1", "--json"])
    assert done.exit_code == 0, done.output
    content = json.loads(done.output)
    assert content["rows"] == 56 and content["encoding"] == "raw" and content["batch_size"] == 16
    names = [one["setting"] for one in content["settings"]]
    assert names[:3] == ["read, 1 thread", "read, 2 threads", "resident on cpu"] and len(names) == 5
    for one in content["settings"]:
        assert all(one[name] >= 0 for name in MEASURES) and one["images_per_second"] > 0
        expected = one["gigabytes_per_second"] / memcpy_limit(64 * 64 * 3)
        assert one["memcpy_fraction"] == pytest.approx(expected, abs=0.01)


def test_text_has_a_line_per_setting(store: Store) -> None:
    lines = measure_store(store.folder, split="val", batch_size=7, threads=[3], repeats=1).lines()
    assert "14 rows, raw, batches of 7" in lines[0] and "GB/s" in lines[1]
    assert [line.split("  ")[0] for line in lines[4:]] == [
        "read, 3 threads",
        "resident on cpu",
        "training batches, 3 threads",
    ]


def test_bad_settings_are_refused(store: Store) -> None:
    with pytest.raises(UserInputError, match="batch size"):
        measure_store(store.folder, batch_size=0)


def test_rates_follow_from_counts() -> None:
    report = LoadReport(images=100, bytes=3_000_000_000, seconds=2.0, wait_seconds=0.5)
    assert report.images_per_second == 50 and report.gigabytes_per_second == 1.5 and report.wait_fraction == 0.25
    assert LoadReport().images_per_second == 0 and LoadReport().wait_fraction == 0
