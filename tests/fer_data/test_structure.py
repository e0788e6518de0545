"""The edges of what a shard may hold, one check at a time."""

from __future__ import annotations

import zlib

import h5py
import numpy as np
import pytest

from aupipe.fer_data.shards.spec import later_in
from aupipe.fer_data.shards.structure import later_faults, value_fault


@pytest.mark.parametrize(("name", "largest"), [("label", 6), ("has_map", 1)])
def test_the_first_value_beyond_the_largest_is_named(name: str, largest: int) -> None:
    assert value_fault(name, np.array([0, largest], np.uint8), 7) == ""
    assert f"{name} {largest + 1}, where" in value_fault(name, np.array([0, largest + 1], np.uint8), 7)


def test_later_datasets_are_compared_with_their_checksum() -> None:
    with h5py.File("shard.h5", "w", driver="core", backing_store=False) as file:
        assert later_in(file) == (), "an older shard knows no persons"
        groups = np.array([b"one", b"two"])
        file["group"] = groups
        file["group"].attrs["crc32"] = zlib.crc32(groups.tobytes())
        assert later_faults(file, later_in(file)) == []
        file["group"][0] = b"two"
        assert later_faults(file, later_in(file)) == ["the dataset group does not match its checksum"]
