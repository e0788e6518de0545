"""Vocabularies, codebook, manifests, the triplet store and its loader."""

import os

# Read once, when OpenCV is loaded, so it stands before every import of it: a file of some kilobytes may claim a
# gigapixel. Set the variable yourself to raise the limit.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(200_000_000))
