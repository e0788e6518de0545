"""The whole job from the command line, small: embedded faces to metrics, twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from test_cli import aupipe


@pytest.mark.slow
def test_demo_runs_end_to_end_and_again(tmp_path: Path, model: Path) -> None:
    arguments = ("demo", "--out", tmp_path / "demo", "--faces", 5, "--epochs", 1, "--workers", 0)
    done = aupipe(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert set(figures) == {"without AUs", "with AUs"}
    for metrics in figures.values():
        assert metrics["n"] == 14 and metrics["n_with_map"] == 12 and metrics["split"] == "test"
        assert set(metrics["controls"]) >= {"uniform", "centre", "mean_map", "wrong_class", "ceiling"}
        assert 0.3 < metrics["controls"]["uniform"] < metrics["controls"]["mean_map"] < 1
        assert all(value <= ceiling + 1e-6 for value, ceiling in zip(
            metrics["att_cos"].values(), metrics["controls"]["ceiling_per_layer"].values(), strict=True
        ))  # fmt: skip
    page = (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") > 20 and "http://" not in page and "https://" not in page
    weights = (tmp_path / "demo" / "run-au" / "best.pt").read_bytes()
    again = aupipe(*arguments)
    assert again.returncode == 0, again.stderr
    assert "ATT-COS" in again.stdout and "uniform" in again.stdout
    assert (tmp_path / "demo" / "run-au" / "best.pt").read_bytes() == weights
