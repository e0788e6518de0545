"""Write docs/api.md from the docstrings: ``python docs/make_api.py``. A test compares the page with what this makes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from textwrap import dedent
from typing import Any

import aupipe
from aupipe.fer_analysis.evaluation import Evaluation
from aupipe.fer_data.loading.loader import Batch
from aupipe.fer_data.manifest import Manifest
from aupipe.fer_data.shards import SplitReader, Store
from aupipe.fer_models.training.config import TrainConfig
from aupipe.pipeline.landmarks.work import FinishedWork
from aupipe.results import Faces, Maps, Predictions
from aupipe.runs import Run

PAGE = Path(__file__).with_name("api.md")

STORY = (
    "build_manifest", "read_manifest", "detect_landmarks", "load_codebook", "render_maps", "build_maps", "open_store",
    "AugmentConfig", "TripletLoader", "train", "evaluate", "load_run", "explain", "compare", "study",
)  # fmt: skip
"""The public names in the order in which one needs them; their examples run in this order, in one folder."""

METHODS = {"TripletLoader": ("epoch", "state_dict", "load_state_dict", "resume")}
"""What is called on a public class."""

RESULTS: tuple[tuple[type, tuple[str, ...]], ...] = (
    (Manifest, ("counts", "to_pandas")),
    (FinishedWork, ("rows", "to_pandas")),
    (Store, ("split",)),
    (SplitReader, ("labels", "has_map", "landmarks", "sample_ids", "image", "au_map")),
    (Batch, ()),
    (Evaluation, ("to_pandas", "against")),
    (Run, ("classes", "layers", "notes", "align", "predict", "attention", "cam")),
    (Faces, ("found",)),
    (Predictions, ("expression", "to_pandas")),
    (Maps, ()),
)
"""What the functions return, each with what is called on it."""

INTRODUCTION = """# The API

Made from the docstrings by `python docs/make_api.py`.

`import aupipe` offers the names below. It loads nothing until a name is used, and changes nothing in your process. Each
function does what the command of its name does, with the same options and defaults, but for `workers`: 0 here, so that
a script needs no `if __name__ == "__main__"`. Paths are `str` or `Path`. Calls are quiet unless `progress=True`; what a
call finished is kept, and the same call continues there. What goes wrong is an `aupipe.fer_data.errors.FerError` whose
text says what to do.

The examples run one after the other in one folder; [photos_to_attention.ipynb](photos_to_attention.ipynb) walks the
same way with pictures.
"""

SECTION = re.compile(r"^(?=(?:Args|Returns|Raises|Example):$)", re.MULTILINE)


def api_page() -> str:
    """Make the page."""
    parts = [INTRODUCTION]
    for name in STORY:
        parts.append("\n".join([f"## {name}\n", signature(name, getattr(aupipe, name)), *body(getattr(aupipe, name))]))
        parts += [member(getattr(aupipe, name), method) for method in METHODS.get(name, ())]
        if name == "train":
            parts.append("\n".join(["### Settings of train\n", *settings()]))
    parts.append("## What they return\n")
    for kind, names in RESULTS:
        parts.append("\n".join([f"### {kind.__name__}\n", *body(kind)]))
        parts += [member(kind, name) for name in names]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"


def signature(name: str, target: Any) -> str:
    """Write how a function is called, as a block of Python."""
    called = inspect.signature(target)
    given = []
    for one in called.parameters.values():
        if one.kind is one.KEYWORD_ONLY and "*" not in given:
            given.append("*")
        if one.name != "self":
            default = "" if one.default is one.empty else f" = {one.default!r}"
            stars = "**" if one.kind is one.VAR_KEYWORD else ""
            given.append(f"{stars}{one.name}: {one.annotation}{default}")
    returned = "" if called.return_annotation in (called.empty, "None", None) else f" -> {called.return_annotation}"
    line = f"{name}({', '.join(given)}){returned}"
    if len(line) > 100:
        line = "\n".join([f"{name}(", *(f"    {one}," for one in given), f"){returned}"])
    return f"```python\n{line}\n```\n"


def member(kind: type, name: str) -> str:
    """Describe a method, or an attribute that is computed."""
    found = inspect.getattr_static(kind, name)
    title = f"#### {kind.__name__}.{name}\n"
    if not inspect.isfunction(found):
        return "\n".join([title, *body(found)])
    return "\n".join([title, signature(name, found), *body(found)])


def settings() -> Iterator[str]:
    """List every option of a training by its heading."""
    heading = ""
    for setting in fields(TrainConfig):
        if setting.metadata["group"] != heading:
            heading = setting.metadata["group"]
            yield f"\n{heading}:\n"
        yield f"- `{setting.name}={setting.default!r}`: {setting.metadata['help']}"
    yield ""


def body(target: Any) -> Iterator[str]:
    """Turn a docstring into Markdown."""
    for block in SECTION.split(inspect.cleandoc(target.__doc__)):
        section, _, rest = block.partition(":\n") if SECTION.match(block) else ("", "", block)
        rest = dedent(rest).strip()
        if section == "Example":
            yield f"```pycon\n{rest}\n```\n"
        elif section in ("Args", "Raises"):
            yield f"{section}:\n"
            for entry in re.split(r"\n(?=\S)", rest):
                name, _, about = entry.partition(":")
                yield f"- `{name}`: {plain(' '.join(about.split()))}"
            yield ""
        else:
            yield f"Returns: {plain(rest)}\n" if section else f"{plain(rest)}\n"


def plain(text: str) -> str:
    """Turn the markup of a docstring into Markdown's."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(api_page(), encoding="utf-8")
