"""Reading, building and checking manifests: one CSV of samples with labels and splits, beside its images' root."""

from __future__ import annotations

from aupipe.fer_data.manifest.build import build_manifest
from aupipe.fer_data.manifest.check import CheckReport, Level, ManifestFinding, check_manifest
from aupipe.fer_data.manifest.descriptors import layout_names
from aupipe.fer_data.manifest.labels import (
    ALIASES,
    COMPOUND_EXPRESSIONS,
    DROP,
    EXPRESSIONS,
    canonical_label,
    parse_label_map,
)
from aupipe.fer_data.manifest.model import Manifest, read_manifest, write_manifest
from aupipe.fer_data.manifest.problems import Problem, ProblemReason
from aupipe.fer_data.manifest.report import BuildReport

__all__ = [
    "ALIASES",
    "COMPOUND_EXPRESSIONS",
    "DROP",
    "EXPRESSIONS",
    "BuildReport",
    "CheckReport",
    "Level",
    "Manifest",
    "ManifestFinding",
    "Problem",
    "ProblemReason",
    "build_manifest",
    "canonical_label",
    "check_manifest",
    "layout_names",
    "parse_label_map",
    "read_manifest",
    "write_manifest",
]
