"""Random numbers from counters: each depends on what it is for, never on what was drawn before it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64, UInt64


def _mix(value: UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    """Finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words that looks random."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(value ^ (value >> np.uint64(31)))


def counter_hash(seed: int, epoch: int, index: Int64[np.ndarray, "n"], draws: int) -> UInt64[np.ndarray, "n d"]:
    """Make random 64-bit words that depend on (seed, epoch, index, draw) and on nothing else."""
    key = _mix(_mix(np.array([seed % 2**64], np.uint64)) ^ np.uint64(epoch))
    row = _mix(key ^ np.asarray(index).astype(np.uint64))
    return _mix(row[:, None] ^ np.arange(draws, dtype=np.uint64))
