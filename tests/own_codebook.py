"""The smallest codebook of one's own: one action unit, as a Gaussian."""

from __future__ import annotations

GAUSSIAN = """
schema = 1
name = "mine"
kind = "gaussian"
[expressions]
happiness = [12]
neutral = []
[[au]]
number = 12
name = "lip corner puller"
gaussians = [{ points = [48], up = 0.05, out = 0.05, sigma = [0.13, 0.13], mirror = true }]
"""
