"""Networks and their training: backbones, methods, losses, metrics (torch)."""
