"""The offline stages: landmarks and action-unit maps."""
