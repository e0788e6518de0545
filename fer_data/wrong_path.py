"""A path that is not what was wanted: what it is, and what to do. One function for all that is read.

Data goes through five steps: images, manifest, landmarks, store, run. Whoever gives one where a later one is wanted is
told the commands that lead there; whoever gives a later one is told where the earlier one is, where the path says it.
"""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from aupipe.fer_data.errors import paragraph
from aupipe.fer_data.folders import KINDS, LANDMARKS, LOCK_NAME, RUN, STORE, FolderKind, is_system_file
from aupipe.fer_data.image_names import is_image

MANIFEST_COLUMNS = ("sample_id", "path", "label", "source_label", "split")
"""The columns with which every manifest begins."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_MOST = 2000
"""Most names that are looked at to tell what a folder is."""


@dataclass(frozen=True)
class _DataStep:
    """One step of the data: what it is called, what makes it of the step before, and the file that completes it."""

    name: str
    command: str
    last_file: str = ""
    folder: FolderKind | None = None

    def whole(self, path: Path) -> bool:
        """Return whether ``path`` is the finished result of this step."""
        if self.last_file:
            return (path / self.last_file).is_file()
        return path.is_dir() if not self.command else path.suffix == ".csv" and path.is_file() and is_manifest(path)


_STEPS = {
    "images": _DataStep("a folder of images", ""),
    "manifest": _DataStep("a manifest", "aupipe manifest build auto {} -o faces.csv"),
    "landmarks": _DataStep("a landmarks folder", "aupipe landmarks {} --out work", "landmarks.json", LANDMARKS),
    "store": _DataStep("a store", "aupipe build-maps {} --out store", "index.json", STORE),
    "run": _DataStep("a run", "aupipe train {} --out run", "config.json", RUN),
}
_ORDER = tuple(_STEPS)
_MADE = _ORDER[2:]
"""Steps whose result is a folder that we wrote."""
_EXAMPLES = {"manifest": "faces.csv", "landmarks": "work", "store": "store", "run": "run"}
"""How the examples call what a step makes."""


def is_manifest(path: Path) -> bool:
    """Return whether a file starts with the header of a manifest."""
    with path.open("rb") as file:
        return file.readline(4096).decode("utf-8-sig", "replace").strip().startswith(",".join(MANIFEST_COLUMNS))


def wrong_path(path: Path, *wanted: str) -> str:
    """Say what a path is that should be something else, and what to do.

    Args:
        path: What was given.
        wanted: ``images``, ``manifest``, ``landmarks``, ``store`` or ``run``: what would do, the likeliest first.

    Returns:
        A paragraph for the error that the caller raises.
    """
    names = " or ".join(_STEPS[one].name for one in wanted)
    if re.match(r"[a-z][a-z0-9+.-]*:/", str(path)):
        return paragraph(f"{path} is a URL.", expected=names, fix="Only a store may lie at a URL.")
    if not path.exists():
        return paragraph(f"{path} does not exist.", expected=names, fix=_similar(path, wanted) or _made_by(wanted[0]))
    for one in wanted:
        if (folder := _STEPS[one].folder) is not None and (folder.made(path) or _said(path) == folder.name):
            return _unfinished(path, _STEPS[one], folder)
    kind, given = _kind(path)
    if kind not in _MADE and (inside := _inside(path, wanted)):
        return paragraph(f"{path} is not {names} itself, but holds {inside}: give that.")
    return paragraph(f"{path} is {given}, not {names}.", fix=_way(path, kind, wanted[0]))


def is_ours(path: Path) -> bool:
    """Return whether a folder's ``.lock`` says that it is a result of ours: photos may lie beside any other names."""
    return (path / LOCK_NAME).is_file() and _kind(path)[0] in _MADE


def is_shard(path: Path) -> bool:
    """Return whether a path is a file of HDF5, by its name or its first bytes."""
    return path.is_file() and (path.suffix == ".h5" or _kind(path)[0] == "shard")


def is_no_text(path: Path) -> bool:
    """Return whether a file is an image or HDF5."""
    return _kind(path)[0] in ("image", "shard")


def _similar(path: Path, wanted: tuple[str, ...]) -> str:
    """Ask for a name beside a path that does not exist; empty where none like it is what is wanted."""
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    close = difflib.get_close_matches(path.name, [one.name for one in islice(beside, _MOST)])
    fits = (one for one in close if any(_STEPS[name].whole(path.parent / one) for name in wanted))
    return next((f"Did you mean {path.parent / one}?" for one in fits), "")


def _made_by(wanted: str) -> str:
    command, before = _STEPS[wanted].command, _ORDER[_ORDER.index(wanted) - 1]
    return f"Make it with `{command.format(_EXAMPLES.get(before, 'IMAGES'))}`." if command else ""


def _unfinished(path: Path, step: _DataStep, folder: FolderKind) -> str:
    return paragraph(
        f"{path} is not a finished {step.name.removeprefix('a ')}: it has no {step.last_file}.",
        fix=f"If `{folder.command}` is writing it, wait; if it was interrupted, run it again with the same --out: it "
        "continues where it stopped.",
    )


def _inside(path: Path, wanted: tuple[str, ...]) -> str:
    """Name what is wanted in a folder, or in its ``runs``: that of a demo, a benchmark, a study."""
    folders = [one for one in (path, path / "runs") if one.is_dir()]
    names = (inner for folder in folders for inner in sorted(islice(folder.iterdir(), _MOST)))
    found = [inner for inner in names if any(_STEPS[one].whole(inner) for one in wanted if one != "images")]
    return " or ".join(map(str, found[:3])) + (f", or one of {len(found) - 3} more" if len(found) > 3 else "")


def _kind(path: Path) -> tuple[str, str]:
    """Tell what a path is: its step, empty for what is none, and its name."""
    if not path.is_dir():
        return next(((kind, name) for kind, name, fits in _FILES if fits(path)), ("", "a file of another kind"))
    if folder := _folder_kind(path):
        step = next((name for name, step in _STEPS.items() if step.folder is folder), "")
        return step, _STEPS[step].name if step else f"what `{folder.command}` made"
    names = list(islice(_walk(path), _MOST))
    if any(is_image(path, name) for name in names):
        return "images", _STEPS["images"].name
    return "", "a folder of other files" if names else "an empty folder"


def _head(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


_FILES: tuple[tuple[str, str, Callable[[Path], bool]], ...] = (
    ("", "no regular file", lambda path: not path.is_file()),
    ("manifest", _STEPS["manifest"].name, is_manifest),
    ("shard", "one HDF5 file", lambda path: _head(path, len(_HDF5)) == _HDF5),
    ("image", "one image", lambda path: is_image(path.parent, path.name)),
)
"""What a file may be, the first that fits."""


def _folder_kind(path: Path) -> FolderKind | None:
    """Tell whose output a folder is: what its ``.lock`` says, else its files."""
    made, said = [kind for kind in KINDS if kind.made(path)], _said(path)
    return next((kind for kind in made if kind.name == said), made[0] if made else None)


def _said(path: Path) -> str:
    """Read whose folder it is from its ``.lock``; empty where there is none."""
    lock = path / LOCK_NAME
    return _head(lock, 64).decode("utf-8", "replace").strip() if lock.is_file() else ""


def _walk(path: Path) -> Iterator[str]:
    return (one.relative_to(path).as_posix() for one in path.rglob("*") if not is_system_file(one.name))


def _way(path: Path, given: str, wanted: str) -> str:
    """Say how to come from what was given to what is wanted."""
    if given == "shard":
        return f"Give the folder it lies in: {path.parent}."
    if given not in _ORDER:
        return _made_by(wanted)
    start, end = _ORDER.index(given), _ORDER.index(wanted)
    if start < end:
        steps = [_STEPS[one] for one in _ORDER[start + 1 : end + 1]]
        first = f"Run `{steps[0].command.format(shlex.quote(str(path)))}` first"
        rest = [f"`{' '.join(step.command.split()[:2])}`" for step in steps[1:]]
        return f"{first}, then {' and '.join(rest)}." if rest else f"{first}."
    return f"Give {_STEPS[wanted].name} instead{_origin(path, given, wanted)}."


def _origin(path: Path, given: str, wanted: str) -> str:
    """Name what a folder was made from, where it says so itself."""
    if given == "landmarks" and wanted == "manifest" and (path / "manifest.csv").is_file():
        return f": {path / 'manifest.csv'}"
    if given == "run" and wanted == "store":
        try:
            store = str(json.loads((path / "config.json").read_text(encoding="utf-8"))["store"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        return f": this run was trained on {store if '://' in store else (path / store).resolve()}"
    return ""
