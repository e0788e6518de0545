"""The second stage: aligned crops and AU maps as shards of a triplet store. ``run`` is its entry."""
