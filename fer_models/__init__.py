"""Backbones, class activation heads, losses, training, evaluation and explanation (torch)."""
