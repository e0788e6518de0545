"""Maps that another program made, measured in the place of a network's own."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from aupipe.commands import cli
from aupipe.fer_analysis.evaluation.measuring import read
from aupipe.fer_analysis.evaluation.run import evaluate
from aupipe.fer_analysis.faithfulness import measure_faithfulness
from aupipe.fer_analysis.faithfulness.text import page_lines
from aupipe.fer_analysis.given_maps import find_maps
from aupipe.fer_data.errors import UserInputError
from aupipe.fer_data.loading.loader import TripletLoader
from aupipe.fer_data.shards import Store
from aupipe.fer_models.training import checkpoint
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given") / "run"
    train(
        store.folder, folder, TrainConfig(backbone="test_resnet", epochs=2, batch_size=14, crop_size=64, device="cpu")
    )
    return folder


@pytest.fixture(scope="module")
def saliency(run: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network's own CAM of the prediction, and the AU map, as another program would save them."""
    folder = tmp_path_factory.mktemp("maps")
    record, model, _ = checkpoint.load_best(run, CPU)
    loader = TripletLoader(store.split("test"), 14, record.config.centre_crop, device=CPU, mode="none")
    with contextlib.closing(loader.epoch(0)) as batches:
        for batch in batches:
            kinds = {"saliency": read(model, batch).maps["cam_predicted"], "au map": batch.au_map}
            for kind, maps in kinds.items():
                for row, values in zip(batch.index.tolist(), maps, strict=True):
                    path = folder / kind / f"{loader.reader.sample_ids[row]}.npy"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    np.save(path, values.numpy())
    return folder / "saliency"


def test_a_networks_own_maps_given_back_have_its_own_figures(run: Path, saliency: Path) -> None:
    own = evaluate(run).content
    before = (run / "metrics.json").read_bytes()
    given = evaluate(run, maps=saliency)
    assert (run / "metrics.json").read_bytes() == before
    content = json.loads((run / "evaluation-maps-saliency-test" / "metrics.json").read_text())
    assert content["maps_from"]["name"] == "saliency" and len(content["maps_from"]["sha256"]) == 64
    wanted, found = (one["localisation"]["cam_predicted"]["all"] for one in (own, content))
    assert wanted == pytest.approx(found, abs=1e-6)
    assert content["att_cos"] == own["att_cos"] and content["accuracy"] == own["accuracy"]
    text = "\n".join(given.lines())
    assert "maps of saliency" in text and "CAM" not in text


def test_the_aus_given_as_maps_are_what_can_be_attained(run: Path, saliency: Path) -> None:
    content = evaluate(run, maps=saliency.parent / "au map", out=run / "attained").content
    assert content["maps_from"]["name"] == "au-map" and content["cam_cos"] == pytest.approx(1, abs=1e-6)


def test_faithfulness_takes_them_too(run: Path, saliency: Path) -> None:
    own = measure_faithfulness(run, limit=6, steps=3, out=run / "own").content
    result = measure_faithfulness(run, limit=6, steps=3, maps=saliency)
    assert (run / "faithfulness-maps-saliency-test-limit-6" / "faithfulness.png").is_file()
    assert result.content["curves"]["given"] == own["curves"]["cam"]
    assert "cam" not in result.content["curves"] and result.content["regions"] == own["regions"]
    # A network of two epochs may depend on nothing; of one that does, the page says which maps were given.
    text = "\n".join(page_lines(run, {**result.content, "depends_on_picture": True}))
    assert "maps made elsewhere" in text and "those of saliency. Whether they depend on the weights is unknown" in text


def test_grey_pictures_and_signed_numbers_are_read(tmp_path: Path) -> None:
    (tmp_path / "p1").mkdir()
    cv2.imwrite(str(tmp_path / "p1" / "a.png"), np.arange(16, dtype=np.uint8).reshape(4, 4))
    np.save(tmp_path / "b.npy", np.arange(-8, 8).reshape(4, 4))
    maps = find_maps(tmp_path, ["p1/a", "b"]).of(torch.tensor([1, 0]))
    assert maps.dtype == torch.float32 and maps.shape == (2, 4, 4)
    assert maps[0].flatten().tolist() == [0] * 9 + list(range(1, 8))
    assert maps[1].flatten().tolist() == list(range(16))


SQUARE = np.ones((4, 4), np.float32)
BAD = {
    "oblong": (np.ones((4, 5)), r"square.*shape \(4, 5\)"),
    "deep": (np.ones((4, 4, 3)), r"shape \(4, 4, 3\)"),
    "words": (np.full((4, 4), "a"), "square of finite numbers"),
    "nan": (np.full((4, 4), np.nan), "not finite"),
    "one": (np.ones((1, 1)), "square of finite numbers"),
    "objects": (np.full((4, 4), None, object), "never unpickled|allow_pickle"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_map_is_named(kind: str, tmp_path: Path) -> None:
    values, said = BAD[kind]
    np.save(tmp_path / "a.npy", values, allow_pickle=True)
    with pytest.raises(UserInputError, match=rf"A map cannot be used.*a\.npy.*(?:{said})"):
        find_maps(tmp_path, ["a"])


def test_faces_without_a_map_and_odd_sizes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"no folder of maps.*--maps"):
        find_maps(tmp_path / "absent", ["a"])
    np.save(tmp_path / "a.npy", SQUARE)
    with pytest.raises(UserInputError, match=r"4 of 5 faces have no map.*no map of b, c, d and 1 more"):
        find_maps(tmp_path, list("abcde"))
    cv2.imwrite(str(tmp_path / "a.png"), np.ones((4, 4), np.uint8))
    with pytest.raises(UserInputError, match=r"1 of 1 faces have two maps"):
        find_maps(tmp_path, ["a"])
    np.save(tmp_path / "b.npy", np.ones((5, 5)))
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserInputError, match=r"b\.npy.*4 x 4 values, as the first map.*5 x 5"):
        find_maps(tmp_path, ["a", "b"]).of(torch.tensor([0, 1]))
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00 cut")
    with pytest.raises(UserInputError, match=r"A map cannot be used.*a\.npy"):
        find_maps(tmp_path, ["a"])


def test_maps_or_another_run_not_both(tmp_path: Path) -> None:
    for command in ("evaluate", "faithfulness"):
        done = CliRunner().invoke(cli.cli, [command, "run", "--maps", "maps", "--against", "other"])
        assert done.exit_code == 2 and "--maps or --against" in done.output
