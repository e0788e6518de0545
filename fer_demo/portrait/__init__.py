"""Labelled expression images made from one public-domain portrait: what the demo and the tests run on."""

from aupipe.fer_demo.portrait.dataset import (
    EXPRESSIONS,
    PortraitFace,
    aus_path,
    portrait_faces,
    random_scene,
    write_portrait_dataset,
)

__all__ = ["EXPRESSIONS", "PortraitFace", "aus_path", "portrait_faces", "random_scene", "write_portrait_dataset"]
