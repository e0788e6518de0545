"""The first stage: 68 landmarks for every image of a manifest, or the reason why there are none. ``run`` is its
entry."""
