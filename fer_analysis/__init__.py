"""Measuring, explaining and comparing trained networks."""
