"""Where ``--pretrained`` takes weights from: a hub's cache, an installed package, the hub; what a run says of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from skimage import data
from torch import Tensor, nn

from aupipe.fer_data import pretrained_files
from aupipe.fer_data.errors import RunError
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.pretrained_files import CARRIED, CarriedWeights
from aupipe.fer_data.shards import Store
from aupipe.fer_data.versions import installed_version
from aupipe.fer_models.backbones import create_backbone, pretrained
from aupipe.fer_models.backbones.create import timm
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train
from aupipe.fer_models.training.run_record import load_record
from aupipe.pipeline.doctor import run_checks

NETWORK = "test_efficientnet"
CONFIG = timm.get_pretrained_cfg(NETWORK)
CARRIER = CarriedWeights(f"{NETWORK}.{CONFIG.tag}", "carries_weights", "weights.pth", "")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cache, no package, no network."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    carry(monkeypatch)


def carry(monkeypatch: pytest.MonkeyPatch, *carriers: CarriedWeights) -> None:
    monkeypatch.setattr(pretrained_files, "CARRIED", carriers)
    monkeypatch.setattr(pretrained, "CARRIED", carriers or CARRIED[:1])


def donor(seed: int, name: str = NETWORK) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    state: dict[str, Tensor] = timm.create_model(name).state_dict()
    return state


def install(
    monkeypatch: pytest.MonkeyPatch, folder: Path, state: dict[str, Tensor], sha256: str | None = None
) -> CarriedWeights:
    """Put a package on the path that carries tensors under names of another program."""
    file = folder / "site" / "carries_weights" / "weights.pth"
    file.parent.mkdir(parents=True)
    torch.save({f"_tensor{number}": value for number, value in enumerate(state.values())}, file)
    info = folder / "site" / "carries_weights-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: carries_weights\nVersion: 1.5\n")
    (info / "RECORD").write_text("carries_weights/weights.pth,,\n")
    monkeypatch.syspath_prepend(folder / "site")
    carrier = replace(CARRIER, sha256=sha256 or sha256_file(file))
    carry(monkeypatch, carrier)
    return carrier


def cache(folder: Path, state: dict[str, Tensor]) -> Path:
    """Put tensors where the hub's client keeps those of the network."""
    place = folder / "hub" / f"models--{CONFIG.hf_hub_id.replace('/', '--')}"
    file = place / "snapshots" / "c0ffee" / "model.safetensors"
    for one in (place / "refs", file.parent):
        one.mkdir(parents=True)
    (place / "refs" / "main").write_text("c0ffee")
    safetensors.torch.save_file(state, file)
    return file


def holds(state: dict[str, Tensor]) -> bool:
    got = create_backbone(NETWORK, pretrained=True).body.state_dict()
    return all(torch.equal(value, state[name]) for name, value in got.items())


def test_a_package_that_carries_weights_needs_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = donor(1)
    carrier = install(monkeypatch, tmp_path, state)
    assert holds(state)
    origin = create_backbone(NETWORK, pretrained=True).origin
    assert origin.as_json() == {
        "source": "installed package", "name": "carries_weights 1.5", "sha256": carrier.sha256
    }  # fmt: skip


def test_a_cache_comes_before_a_package_and_both_before_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"in no cache.*Connection refused"):
        create_backbone(NETWORK, pretrained=True)
    install(monkeypatch, tmp_path, donor(1))
    file = cache(tmp_path, state := donor(2))
    assert holds(state)
    origin = create_backbone(NETWORK, pretrained=True).origin
    assert (origin.source, origin.name, origin.sha256) == ("hub cache", CONFIG.hf_hub_id, sha256_file(file))


def test_what_torch_downloaded_from_a_url_is_a_cache_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    by_url = replace(CONFIG, hf_hub_id=None, url="https://example.org/weights/some-0123.pth?download=1")
    monkeypatch.setattr(pretrained.timm, "get_pretrained_cfg", lambda _: by_url)
    file = tmp_path / "torch" / "hub" / "checkpoints" / "some-0123.pth"
    file.parent.mkdir(parents=True)
    torch.save(state := donor(3), file)
    assert holds(state)


def test_weights_of_another_tag_are_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    carrier = install(monkeypatch, tmp_path, donor(1))
    carry(monkeypatch, replace(carrier, network=f"{NETWORK}.other_training"))
    with pytest.raises(RunError, match="in no cache"):
        create_backbone(NETWORK, pretrained=True)


def test_a_package_with_another_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    carrier = install(monkeypatch, tmp_path, donor(1), sha256="c0ffee")
    with pytest.raises(RunError, match=r"carries_weights does not carry.*SHA-256 c0ffee.*--force-reinstall"):
        create_backbone(NETWORK, pretrained=True)
    check = next(check for check in run_checks() if check.name == "pretrained")
    assert not check.ok and "--force-reinstall" in check.repair
    carry(monkeypatch, replace(carrier, file="gone.pth"))
    with pytest.raises(RunError, match="no such file"):
        create_backbone(NETWORK, pretrained=True)


def test_every_shape_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = donor(1)
    first, second = list(state)[:2]
    install(monkeypatch, tmp_path / "a", {**state, second: torch.zeros(7)})
    with pytest.raises(RunError, match=rf"do not have the shapes.*{second} .*_tensor1 \(7,\)"):
        create_backbone(NETWORK, pretrained=True)
    install(monkeypatch, tmp_path / "b", {first: state[first]})
    with pytest.raises(RunError, match=r"Got: 1 tensors"):
        create_backbone(NETWORK, pretrained=True)


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    file = cache(tmp_path, donor(2))
    file.write_bytes(b"cut off")
    with pytest.raises(RunError, match=rf"cannot be read.*{file.name}.*Delete the file"):
        create_backbone(NETWORK, pretrained=True)


def test_a_resolver_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_session", lambda: time.sleep(20))
    monkeypatch.setattr(pretrained, "REACH_SECONDS", 0.2)
    started = time.perf_counter()
    with pytest.raises(RunError, match=r"did not answer within 0\.2 s.*aupipe\[backbone\].*tf_efficientnet_lite0"):
        create_backbone("resnet18", pretrained=True)
    assert time.perf_counter() - started < 5


def test_a_server_that_fails_is_not_asked_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[int] = []

    class Failing(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            answers.append(503)
            self.send_response(503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Failing) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        try:
            with pytest.raises(RunError, match=r"Got: http://127\.0\.0\.1:\d+ answered 503"):
                create_backbone("resnet18", pretrained=True)
        finally:
            server.shutdown()
            serving.join()
    assert answers == [503]


def test_the_doctor_lists_what_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def found() -> str:
        (check,) = (check for check in run_checks() if check.name == "pretrained")
        assert check.ok
        return check.found

    assert "no weights on this machine" in found() and "aupipe[backbone]" in found()
    install(monkeypatch, tmp_path, donor(1))
    cache(tmp_path, donor(2))
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "torch" / "hub" / "checkpoints" / "xception.pth").touch()
    assert found() == f"{CONFIG.hf_hub_id}, xception.pth, {CARRIER.network} (carries_weights 1.5)"


def test_a_run_records_whence_its_weights_came(monkeypatch: pytest.MonkeyPatch, store: Store, tmp_path: Path) -> None:
    config = TrainConfig(backbone=NETWORK, epochs=1, batch_size=14, crop_size=64, device="cpu", max_steps=1)
    train(store.folder, tmp_path / "random", config)
    assert load_record(tmp_path / "random").initial_weights == {"source": "random numbers"}
    torch.save(donor(1), file := tmp_path / "mine.pth")
    train(store.folder, tmp_path / "file", replace(config, weights=str(file)))
    assert load_record(tmp_path / "file").initial_weights == {
        "source": "file", "name": "mine.pth", "sha256": sha256_file(file)
    }  # fmt: skip
    carrier = install(monkeypatch, tmp_path, donor(1))
    train(store.folder, tmp_path / "carried", replace(config, pretrained=True))
    wanted = {"source": "installed package", "name": "carries_weights 1.5", "sha256": carrier.sha256}
    assert load_record(tmp_path / "carried").initial_weights == wanted
    carry(monkeypatch)  # a run that is continued needs the weights no more, and keeps what it began with
    train(store.folder, tmp_path / "carried", replace(config, pretrained=True, max_steps=2))
    assert json.loads((tmp_path / "carried" / "config.json").read_text())["initial_weights"] == wanted


@pytest.fixture
def lite0(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real package."""
    if installed_version(CARRIED[0].package) is None:
        pytest.skip("no weights are installed (extra [backbone])")
    carry(monkeypatch, *CARRIED)


def photo(show: Callable[[], np.ndarray]) -> Tensor:
    """The central square of a photo, as the network was trained to see it."""
    image = torch.from_numpy(show().copy()).permute(2, 0, 1)[None].float() / 255
    side = min(image.shape[2:])
    top, left = (image.shape[2] - side) // 2, (image.shape[3] - side) // 2
    square = image[..., top : top + side, left : left + side]
    return (F.interpolate(square, (224, 224), mode="bicubic", antialias=True).clamp(0, 1) - 0.5) / 0.5


@torch.no_grad()
@pytest.mark.usefixtures("lite0")
def test_the_published_package_knows_imagenet() -> None:
    """Egyptian cat and espresso. The classifier is not part of a backbone: its two tensors are read here."""
    net = timm.create_model(name := "tf_efficientnet_lite0").eval()
    source = pretrained.pretrained_source(name)
    assert source.path is not None
    net.load_state_dict(source.carried_tensors(source.path, net.state_dict()))
    photos = torch.cat([photo(data.chelsea), photo(data.coffee)])
    assert net(photos).argmax(1).tolist() == [285, 967]
    features = create_backbone(name, pretrained=True).eval()(photos)[-1]
    assert torch.allclose(features, net.forward_intermediates(photos)[1][-1], atol=1e-5)


@torch.no_grad()
@pytest.mark.usefixtures("lite0")
def test_the_norms_of_the_published_package_meet_what_they_remember() -> None:
    """What each norm meets in four photos correlates, channel by channel, with the mean it has kept from ImageNet.

    The first norm of a block follows a linear bottleneck, whose means are near zero and change from photo to photo.
    """
    net = create_backbone("tf_efficientnet_lite0", pretrained=True).eval()
    seen: dict[str, float] = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d) and (not name.endswith("bn1") or "blocks" not in name):
            module.register_forward_hook(
                lambda norm, inputs, _, name=name: seen.update(
                    {name: float(np.corrcoef(inputs[0].mean((0, 2, 3)), norm.running_mean)[0, 1])}
                )
            )
    net(torch.cat([photo(one) for one in (data.chelsea, data.coffee, data.rocket, data.astronaut)]))
    assert len(seen) == 32 and min(seen.values()) > 0.9, seen
