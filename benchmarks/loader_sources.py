"""The ways of reading that ``loader.py`` compares: how each keeps the images, and how it delivers an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.loading.augment import AugmentConfig
from aupipe.fer_data.loading.loader import TripletLoader
from aupipe.fer_data.shards import ShardHeader, StoreIndex, TripletRow, open_store, write_shard
from aupipe.fer_data.shards.index import save_index
from aupipe.fer_data.shards.spec import SCHEMA_VERSIONS

CLASSES = ("fear", "happiness")
QUALITY = 95
Epochs = Callable[[int], Iterable[Any]]

cv2.setNumThreads(1)
torch.set_num_threads(1)


@lru_cache(maxsize=1)
def pictures(rows: int, size: int) -> np.ndarray:
    """Smooth noise with some grain: as compressible as photos."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(20, 235, (rows, size // 16, size // 16, 3)).astype(np.float32)
    grown = (cv2.resize(one, (size, size)) + rng.normal(0, 3, (size, size, 3)) for one in coarse)
    return np.stack([np.clip(one, 0, 255).astype(np.uint8) for one in grown])


def jpegs(rows: int, size: int) -> Iterator[bytes]:
    """The same as JPEG files."""
    for image in pictures(rows, size):
        yield cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def decode(data: bytes) -> np.ndarray:
    """RGB pixels of a JPEG, with OpenCV."""
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))


def moved(image: np.ndarray, crop: int | None) -> torch.Tensor:
    """A random crop, mirrored half of the time, as everybody does it; ``crop`` None: the image as it is."""
    if crop is not None:
        y, x = np.random.randint(0, image.shape[0] - crop + 1, 2)
        flip = np.random.rand() < 0.5
        image = image[y : y + crop, x : x + crop]
        image = cv2.flip(image, 1) if flip else np.ascontiguousarray(image)
    return torch.from_numpy(np.array(image) if not image.flags.writeable else image)


class Rows(torch.utils.data.Dataset[torch.Tensor]):
    """A map-style data set over a function that opens the data in the process that reads them."""

    def __init__(self, opener: Callable[[], tuple[int, Callable[[int], np.ndarray]]], crop: int | None) -> None:
        self.opener, self.crop = opener, crop
        self.count, self.read = opener()[0], None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> torch.Tensor:
        if self.read is None:
            self.read = self.opener()[1]
        return moved(self.read(row), self.crop)


def loaded(opener: Any, folder: Path, workers: int, batch: int, crop: int | None) -> Epochs:
    """A plain shuffling ``DataLoader``."""
    return lambda epoch: DataLoader(Rows(partial(opener, folder), crop), batch, shuffle=True, num_workers=workers)


def open_files(read: Callable[[str], np.ndarray], folder: Path) -> tuple[int, Callable[[int], np.ndarray]]:
    """A folder of JPEG files."""
    paths = sorted(str(path) for path in (folder / "files").glob("*/*.jpg"))
    return len(paths), lambda row: read(paths[row])


def with_pillow(path: str) -> np.ndarray:
    """As torchvision's ImageFolder reads it."""
    return np.asarray(Image.open(path).convert("RGB"))


def with_opencv(path: str) -> np.ndarray:
    """Read and decode one file."""
    return np.asarray(cv2.imread(path, cv2.IMREAD_COLOR_RGB))


def open_h5(folder: Path) -> tuple[int, Callable[[int], np.ndarray]]:
    """The usual recipe: one dataset, opened in each worker, indexed in ``__getitem__``."""
    file = h5py.File(folder / "recipe.h5", "r")
    return len(file["image"]), lambda row: np.asarray(file["image"][row])


def open_lmdb(name: str, unpack: Callable[[bytes], np.ndarray], folder: Path) -> tuple[int, Any]:
    """One record per image."""
    import lmdb

    base = lmdb.open(str(folder / name), readonly=True, lock=False, readahead=False)
    transaction = base.begin(buffers=False)
    return base.stat()["entries"], lambda row: unpack(transaction.get(b"%08d" % row))


def unpack_raw(data: bytes) -> np.ndarray:
    """Square RGB pixels."""
    side = round((len(data) / 3) ** 0.5)
    return np.frombuffer(data, np.uint8).reshape(side, side, 3)


def of_webdataset(name: str, unpack: Any, folder: Path, workers: int, batch: int, crop: int | None) -> Epochs:
    """Tar files, shuffled through a buffer of 256 samples."""
    import webdataset

    urls = sorted(str(path) for path in (folder / name).glob("*.tar"))
    kind = "raw" if name.endswith("raw") else "jpg"

    def epoch(number: int) -> Iterable[Any]:
        stream = webdataset.WebDataset(urls, shardshuffle=len(urls), empty_check=False, seed=number).shuffle(256)
        return DataLoader(stream.map(lambda one: moved(unpack(one[kind]), crop)), batch, num_workers=workers)

    return epoch


def of_litdata(name: str, unpack: Any, folder: Path, workers: int, batch: int, crop: int | None) -> Epochs:
    """Lightning's chunks."""
    import litdata

    def epoch(number: int) -> Iterable[Any]:
        data = litdata.StreamingDataset(str(folder / name), shuffle=True, transform=partial(_unpacked, unpack, crop))
        return litdata.StreamingDataLoader(data, batch_size=batch, num_workers=workers)

    return epoch


def _unpacked(unpack: Any, crop: int | None, one: Any) -> torch.Tensor:
    return moved(unpack(one["image"]), crop)


def of_mosaic(name: str, unpack: Any, folder: Path, workers: int, batch: int, crop: int | None) -> Epochs:
    """MosaicML's shards."""
    import streaming
    from streaming.base.util import clean_stale_shared_memory

    class Read(streaming.StreamingDataset):  # type: ignore[misc]
        """Samples as tensors."""

        def __getitem__(self, row: int) -> torch.Tensor:
            return moved(unpack(super().__getitem__(row)["image"]), crop)

    clean_stale_shared_memory()
    data = Read(local=str(folder / name), shuffle=True, batch_size=batch)
    return lambda epoch: DataLoader(data, batch, num_workers=workers)


def ours(name: str, resident: bool, folder: Path, workers: int, batch: int, crop: int | None) -> Epochs:
    """This project's loader."""
    reader = open_store(folder / name).split("train")
    whole = AugmentConfig(reader.store.index.image_size, enabled=False)
    config = whole if crop is None else AugmentConfig(crop, scale=(1, 1), rotation_p=0)
    loader = TripletLoader(reader, batch, config, threads=max(workers, 1), resident=resident)
    return loader.uint8_epoch


def write_store(folder: Path, rows: int, size: int, encoding: str) -> None:
    """A store of the pictures with empty maps."""
    face, small = mean_face(size).astype(np.float32), np.zeros((size // 4, size // 4), np.uint8)
    made = (
        TripletRow(f"{row:08d}", row % 2, image, small, True, face, np.eye(2, 3))
        for row, image in enumerate(pictures(rows, size))
    )
    book = load_codebook("default")
    header = ShardHeader(
        "train", CLASSES, size, size // 4, "plan", book.name, book.digest, "{}", "{}", 8,
        encoding=encoding, jpeg_quality=QUALITY,
    )  # fmt: skip
    folder.mkdir()
    entry = write_shard(folder / "train-00000.h5", made, rows, header)
    index = StoreIndex(
        classes=CLASSES, image_size=size, map_size=size // 4, id_bytes=8, rows_per_shard=rows, shards=(entry,),
        total=rows, failed={}, files={}, config={}, codebook=dict(book.content), codebook_digest=book.digest,
        provenance={},
        channel_mean=[0.5] * 3, channel_std=[0.2] * 3, schema_version=SCHEMA_VERSIONS[encoding],
    )  # fmt: skip
    save_index(folder, index)


def write_files(folder: Path, rows: int, size: int) -> None:
    """One folder per class."""
    for row, data in enumerate(jpegs(rows, size)):
        path = folder / CLASSES[row % 2] / f"{row:08d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def write_h5(path: Path, rows: int, size: int) -> None:
    """What ``create_dataset`` does when nothing is said."""
    with h5py.File(path, "w") as file:
        file["image"] = pictures(rows, size)


def write_lmdb(folder: Path, rows: int, size: int) -> None:
    """Raw or JPEG records, by the folder's name."""
    import lmdb

    with lmdb.open(str(folder), map_size=2**36) as base, base.begin(write=True) as transaction:
        for row, data in enumerate(_records(folder, rows, size)):
            transaction.put(b"%08d" % row, data)


def write_webdataset(folder: Path, rows: int, size: int) -> None:
    """Four tar files, so that two workers have something to share."""
    import webdataset

    folder.mkdir()
    kind = "raw" if folder.name.endswith("raw") else "jpg"
    with webdataset.ShardWriter(str(folder / "%04d.tar"), maxcount=-(-rows // 4), verbose=0) as sink:
        for row, data in enumerate(_records(folder, rows, size)):
            sink.write({"__key__": f"{row:08d}", kind: data})


def write_litdata(folder: Path, rows: int, size: int) -> None:
    """Chunks of the usual 64 MB."""
    from litdata.streaming.writer import BinaryWriter

    folder.mkdir()
    writer = BinaryWriter(str(folder), chunk_bytes="64MB")
    for row, data in enumerate(_records(folder, rows, size)):
        writer.add_item(row, {"image": data})
    writer.done()
    writer.merge()


def write_mosaic(folder: Path, rows: int, size: int) -> None:
    """Shards of the usual 64 MB."""
    from streaming import MDSWriter

    with MDSWriter(out=str(folder), columns={"image": "bytes"}) as writer:
        for data in _records(folder, rows, size):
            writer.write({"image": data})


def _records(folder: Path, rows: int, size: int) -> Iterable[bytes]:
    if folder.name.endswith("raw"):
        return (image.tobytes() for image in pictures(rows, size))
    return jpegs(rows, size)


SOURCES: dict[str, Callable[..., Epochs]] = {
    "ours raw": partial(ours, "store-raw", False),
    "ours resident": partial(ours, "store-raw", True),
    "h5py recipe": partial(loaded, open_h5),
    "LMDB raw": partial(loaded, partial(open_lmdb, "lmdb-raw", unpack_raw)),
    "WebDataset raw": partial(of_webdataset, "web-raw", unpack_raw),
    "LitData raw": partial(of_litdata, "lit-raw", unpack_raw),
    "MosaicML raw": partial(of_mosaic, "mosaic-raw", unpack_raw),
    "ours jpeg": partial(ours, "store-jpeg", False),
    "folder, Pillow": partial(loaded, partial(open_files, with_pillow)),
    "folder, OpenCV": partial(loaded, partial(open_files, with_opencv)),
    "LMDB jpeg": partial(loaded, partial(open_lmdb, "lmdb-jpeg", decode)),
    "WebDataset jpeg": partial(of_webdataset, "web-jpeg", decode),
    "LitData jpeg": partial(of_litdata, "lit-jpeg", decode),
    "MosaicML jpeg": partial(of_mosaic, "mosaic-jpeg", decode),
}
OURS = ("ours raw", "ours resident", "ours jpeg")
RAW = ("ours raw", "ours resident", "h5py recipe", "LMDB raw", "WebDataset raw", "LitData raw", "MosaicML raw")
MODULES = {"LMDB": "lmdb", "WebDataset": "webdataset", "LitData": "litdata", "MosaicML": "streaming"}
NEEDS = {f"{title} {kind}": (module,) for title, module in MODULES.items() for kind in ("raw", "jpeg")}
PLACES: dict[str, tuple[str, Callable[[Path, int, int], None]]] = {
    "ours raw": ("store-raw", partial(write_store, encoding="raw")),
    "ours resident": ("store-raw", partial(write_store, encoding="raw")),
    "ours jpeg": ("store-jpeg", partial(write_store, encoding="jpeg")),
    "h5py recipe": ("recipe.h5", write_h5),
    "LMDB raw": ("lmdb-raw", write_lmdb),
    "LMDB jpeg": ("lmdb-jpeg", write_lmdb),
    "WebDataset raw": ("web-raw", write_webdataset),
    "WebDataset jpeg": ("web-jpeg", write_webdataset),
    "LitData raw": ("lit-raw", write_litdata),
    "LitData jpeg": ("lit-jpeg", write_litdata),
    "MosaicML raw": ("mosaic-raw", write_mosaic),
    "MosaicML jpeg": ("mosaic-jpeg", write_mosaic),
    "folder, Pillow": ("files", write_files),
    "folder, OpenCV": ("files", write_files),
}


def prepare(name: str, folder: Path, rows: int, size: int) -> int:
    """Write the images as the way ``name`` keeps them, unless another way did; bytes on disk."""
    place, write = PLACES[name]
    path = folder / place
    if not path.exists():
        write(path, rows, size)
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_blocks * 512 for one in files)
