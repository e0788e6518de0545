"""A shard opens in tools that know nothing of this project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from golden_stores import CLASSES, FOLDER, golden_row

SHARD = FOLDER / "store-1.1" / "train-00000.h5"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_xarray_names_the_axes() -> None:
    xarray = pytest.importorskip("xarray", reason="extra [test]")
    pytest.importorskip("h5netcdf", reason="extra [test]")
    with xarray.open_dataset(SHARD, engine="h5netcdf") as data:
        assert data["image"].dims == ("sample", "y", "x", "channel")
        assert data["au_map"].dims == ("sample", "map_y", "map_x")
        assert data["landmarks"].dims == ("sample", "landmark", "xy")
        assert data["to_source"].dims == ("sample", "row", "column")
        assert dict(data.sizes) == {
            "sample": 3, "y": 16, "x": 16, "channel": 3, "map_y": 8, "map_x": 8, "landmark": 68, "xy": 2, "row": 2,
            "column": 3,
        }  # fmt: skip
        assert list(data.attrs["classes"]) == list(CLASSES) and data.attrs["split"] == "train"
        assert data["landmarks"].attrs["units"] == "pixel" and "RGB" in data["image"].attrs["long_name"]
        np.testing.assert_array_equal(data["image"][2], golden_row(2).image)
        np.testing.assert_allclose(data["au_map"][2], golden_row(2).au_map / 255, atol=1e-6)  # scaled by xarray itself


def test_h5glance_lists_everything() -> None:
    pytest.importorskip("h5glance", reason="extra [test]")
    done = subprocess.run([sys.executable, "-m", "h5glance", str(SHARD)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for line in ("image", "au_map", "landmarks", "3 × 16 × 16 × 3"):
        assert line in done.stdout


def test_viewers_are_told_that_these_are_pictures() -> None:
    with h5py.File(SHARD) as file:
        image = file["image"]
        stated = {name: image.attrs[name] for name in image.attrs if name.isupper() and name != "DIMENSION_LIST"}
        assert stated == {
            "CLASS": b"IMAGE", "IMAGE_VERSION": b"1.2", "IMAGE_SUBCLASS": b"IMAGE_TRUECOLOR",
            "INTERLACE_MODE": b"INTERLACE_PIXEL", "DISPLAY_ORIGIN": b"UL",
        }  # fmt: skip
        assert [dimension[0].name for dimension in image.dims] == ["/sample", "/y", "/x", "/channel"]
        assert not image.is_scale


def test_the_jpeg_dataset_is_a_row_of_plain_files(tmp_path: Path) -> None:
    from PIL import Image

    with h5py.File(FOLDER / "store-2.0" / "train-00000.h5") as file:
        start, stop = file["image_offset"][1:3]
        (tmp_path / "row.jpg").write_bytes(file["image_jpeg"][start:stop].tobytes())
    with Image.open(tmp_path / "row.jpg") as image:
        pixels = np.asarray(image).astype(int)
    assert np.abs(pixels - golden_row(1).image).max() <= 8
