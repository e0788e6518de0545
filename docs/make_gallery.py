"""Make every picture of docs/gallery.md anew: ``python docs/make_gallery.py FOLDER``.

The page is the script: the commands that it shows are run in its order, in FOLDER, and their pictures are made small
enough for a page. From nothing that takes some ten minutes on two cores, nearly all of it training; every command
continues where it was interrupted, and so does this program.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from aupipe.fer_data.images import write_png
from aupipe.fer_data.shards import open_store
from aupipe.pipeline.landmark_views.drawing import WHITE, face_picture, load_photo
from aupipe.pipeline.landmarks.work import open_work

DOCS = Path(__file__).parent
PAGE, PICTURES = DOCS / "gallery.md", DOCS / "figures" / "gallery"
PROGRAMS = {"aupipe": (sys.executable, "-m", "aupipe"), "python": (sys.executable,)}


LARGEST = 100_000
"""Bytes of a picture that keeps its 24 bits; photos get a palette."""


@dataclass(frozen=True)
class Picture:
    """A picture of the page: ``source`` in FOLDER; its upper ``share`` is shown, ``width`` pixels wide at most."""

    name: str
    source: str
    share: float = 1.0
    width: int = 1100


SHOWN = (
    Picture("landmarks.png", "landmarks.png"),
    Picture("sheet.png", "demo/work/sheet.png", share=0.36),
    Picture("codebook.png", "codebook.png"),
    Picture("difference.png", "difference.png"),
    Picture("triplets.png", "triplets.png"),
    Picture("store.png", "store.png", share=0.45),
    Picture("curves.png", "demo/run-au/curves.png"),
    Picture("confusion.png", "demo/run-au/confusion.png"),
    Picture("cosines.png", "demo/run-au/cosines.png"),
    Picture("average-maps.png", "demo/run-au/average_maps.png"),
    Picture("explained.png", "explained/faces/portrait.png.face1.png"),
    Picture("compared-maps.png", "compared/maps.png"),
    Picture("dendrogram.png", "compared/dendrogram_overall.png"),
    Picture("table.png", "grid/table-1.png", width=1500),
    Picture("methods.png", "grid/methods.png", width=1500),
)


def commands(page: str) -> list[list[str]]:
    """The commands of the page's ``sh`` blocks, as words."""
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


def make_gallery(folder: Path) -> None:
    """Run the commands, draw what no single command draws, write every picture of :data:`SHOWN`."""
    folder.mkdir(parents=True, exist_ok=True)
    for program, *words in commands(PAGE.read_text(encoding="utf-8")):
        sys.stderr.write(f"$ {program} {shlex.join(words)}\n")
        subprocess.run([*PROGRAMS[program], *words], cwd=folder, check=True)
    draw_landmarks(folder / "demo" / "work", folder / "landmarks.png")
    draw_triplets(folder / "demo" / "store", folder / "triplets.png")
    PICTURES.mkdir(parents=True, exist_ok=True)
    for picture in SHOWN:
        shrink(folder / picture.source, PICTURES / picture.name, picture)


def draw_landmarks(work: Path, out: Path, count: int = 4) -> None:
    """The first ``count`` faces that were found, each of another expression, with their 68 points."""
    finished, tiles = open_work(work), dict[str, np.ndarray]()
    for row in finished.rows():
        photo = load_photo(finished.manifest.root / row.sample.path, row.sha256)
        if row.found and row.sample.label not in tiles and not isinstance(photo, str):
            tiles[row.sample.label] = face_picture(photo, [(row.points, WHITE)], side=270)
        if len(tiles) == count:
            break
    write_png(out, np.concatenate(list(tiles.values()), axis=1))


def draw_triplets(store_folder: Path, out: Path) -> None:
    """The first test row of every expression: the image, its label above, its AU map below."""
    store = open_store(store_folder)
    reader = store.split("test")
    figure = Figure(figsize=(11, 3.5), dpi=100, layout="constrained")
    for label, (above, below) in enumerate(figure.subplots(2, len(store.index.classes)).T):
        row = int(np.flatnonzero(reader.labels == label)[0])
        above.imshow(reader.image(row))
        above.set_title(store.index.classes[label], fontsize=11)
        if reader.has_map[row]:
            below.imshow(reader.au_map(row), cmap="magma", vmin=0, vmax=1, interpolation="bilinear")
        else:
            below.text(0.5, 0.5, "no AUs, no map", ha="center", va="center")
        for axes in (above, below):
            axes.set(xticks=[], yticks=[], box_aspect=1)
            axes.spines[:].set_visible(False)
    figure.savefig(out)


def shrink(source: Path, out: Path, picture: Picture) -> None:
    """Write the part of ``source`` that is shown, no wider than it should be and with 256 colours if it is large."""
    whole = Image.open(source).convert("RGB")
    shown = whole.crop((0, 0, whole.width, round(picture.share * whole.height)))
    if shown.width > picture.width:
        height = round(shown.height * picture.width / shown.width)
        shown = shown.resize((picture.width, height), Image.Resampling.LANCZOS)
    shown.save(out, optimize=True)
    if out.stat().st_size > LARGEST:
        # An octree keeps rare colours, such as the peaks of a map, that a median cut gives away.
        shown.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    make_gallery(Path(sys.argv[1]))
