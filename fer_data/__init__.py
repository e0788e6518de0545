"""Vocabularies, codebook, manifests, the triplet store and its loader."""
