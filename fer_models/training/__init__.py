"""Training: settings, the loop, checkpoints, several processes. ``run`` is its entry."""
