"""Interpretable facial expression recognition: landmarks, action-unit maps, a triplet store, and guided training."""
