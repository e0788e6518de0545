"""Croissant metadata (MLCommons, version 1.1): what a data set's files are, for catalogues and for programs.

Beside a store's ``index.json`` it names the shards with size and SHA-256. Croissant has no way to read rows of HDF5, so
it describes records only beside the tables of ``aupipe export --to parquet``. What nobody told, such as the images'
licence, is left out, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aupipe.fer_data.errors import StoreError, UserInputError, paragraph, unknown_name
from aupipe.fer_data.files import sha256_file, write_json
from aupipe.fer_data.folders import STORE, output_folder
from aupipe.fer_data.shards.index import INDEX_NAME, StoreIndex
from aupipe.fer_data.typed import UnreadableTextError, read_json

CROISSANT_NAME = "croissant.json"

VERSION = "http://mlcommons.org/croissant/1.1"

ABOUT = ("name", "description", "license", "creator", "url", "datePublished", "citeAs", "version")
"""What only people can say of a data set; Croissant asks for all of it."""

_MEDIA = {
    ".h5": "application/x-hdf5",
    ".json": "application/json",
    ".csv": "text/csv",
    ".parquet": "application/x-parquet",
}
_NAMED, _DESCRIBED = "faces-", "Aligned face crops of"
"""How name and description begin where nobody says them."""
_OUR_NAME = re.compile(rf"{_NAMED}[0-9a-f]{{8}}")
_OUR_DESCRIPTION = re.compile(rf"{_DESCRIBED} \d+ x \d+ pixels \(.*\), each with an expression label \(.*", re.DOTALL)

_OWN_WORDS = (
    "arrayShape citeAs column containedIn equivalentProperty extract field fileObject fileProperty fileSet format "
    "includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace "
    "samplingRate separator source subField transform"
)
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{word: f"cr:{word}" for word in _OWN_WORDS.split()},
}
"""The one of the standard, word for word: programs warn of another."""


@dataclass(frozen=True)
class DescribedFile:
    """A file beside the metadata."""

    name: str
    bytes: int
    sha256: str


def read_about(words: Sequence[str]) -> dict[str, str]:
    """Read what people say of a data set, ``license=https://...`` and the like.

    Raises :class:`UserInputError` for a word that is not so, or a key that Croissant does not have.
    """
    about = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not (sign and value.strip()):
            raise UserInputError(paragraph("--about takes KEY=VALUE.", expected="license=https://...", got=word))
        if key not in ABOUT:
            raise UserInputError(unknown_name("key of --about", key, list(ABOUT)))
        about[key] = value.strip()
    return about


def missing_about(about: Mapping[str, str]) -> list[str]:
    """List what a catalogue will ask for and nobody told; name and description are always there."""
    return [key for key in ABOUT if key not in about and key not in ("name", "description")]


def kept_about(folder: Path) -> dict[str, str]:
    """Read what people said of the data in a metadata file that is there: it is to outlast the file."""
    try:
        content = read_json(folder / CROISSANT_NAME, dict[str, Any])
    except UnreadableTextError:
        return {}
    said = {key: content[key] for key in ABOUT if key in content}
    said = {key: _in_words(value) for key, value in said.items()}
    ours = {"name": _OUR_NAME, "description": _OUR_DESCRIPTION}
    return {key: value for key, value in said.items() if value and not (key in ours and ours[key].fullmatch(value))}


def _in_words(value: object) -> str:
    """Write a value as text: the name of a person, or those of several; empty for what has none."""
    if isinstance(value, list):
        return ", ".join(filter(None, map(_in_words, value)))
    if isinstance(value, dict):
        return _in_words(value.get("name"))
    return value if isinstance(value, str) else ""


def metadata(
    index: StoreIndex,
    description: str,
    files: Sequence[DescribedFile],
    about: Mapping[str, str],
    sets: Sequence[Mapping[str, Any]] = (),
    records: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Make the content of a metadata file.

    Args:
        index: Of the store that is described, or was exported.
        description: Of the data set, if ``about`` has none.
        files: Files beside the metadata.
        about: What people say, by the keys of :data:`ABOUT`.
        sets: File sets.
        records: Record sets.
    """
    told: dict[str, Any] = {"name": f"{_NAMED}{index.digest[:8]}", "description": description, **about}
    if "creator" in told:
        told["creator"] = {"@type": "sc:Person", "name": told["creator"]}
    objects = [
        {
            "@type": "cr:FileObject",
            "@id": file.name,
            "name": file.name,
            "contentUrl": file.name,
            "contentSize": f"{file.bytes} B",
            "encodingFormat": _MEDIA[Path(file.name).suffix],
            "sha256": file.sha256,
        }
        for file in files
    ]
    content: dict[str, Any] = {"@context": _CONTEXT, "@type": "sc:Dataset", "conformsTo": VERSION, **told}
    content["distribution"] = [*objects, *sets]
    return {**content, "recordSet": list(records)} if records else content


def describe_store(folder: Path, index: StoreIndex, about: Mapping[str, str]) -> Path:
    """Write a store's metadata beside its index; returns the file. What it said before and is not said anew stays.

    Raises:
        FolderInUseError: Another process writes the store.
        StoreError: A file of the store is missing or has another size.
    """
    sizes = {shard.name: shard.bytes for shard in index.shards}
    for name in (*sizes, *index.files):
        path = folder / name
        if not path.is_file() or path.stat().st_size != sizes.get(name, path.stat().st_size):
            raise StoreError(
                paragraph(
                    "A file of the store is missing or has another size, so the store cannot be described.",
                    where=path,
                    fix="Run `aupipe verify` on the store, then `aupipe repair`.",
                )
            )
    description = (
        f"{what_is_in(index)} The files are HDF5, schema {index.schema_version}: row i of every dataset is one face. "
        "Croissant cannot read rows of HDF5; `aupipe export --to parquet` makes tables with record sets of it."
    )
    with output_folder(folder, STORE):
        sides = [DescribedFile(name, (folder / name).stat().st_size, sha256) for name, sha256 in index.files.items()]
        shards = [DescribedFile(shard.name, shard.bytes, shard.sha256) for shard in index.shards]
        files = [described_file(folder / INDEX_NAME), *sides, *shards]
        write_json(folder / CROISSANT_NAME, metadata(index, description, files, {**kept_about(folder), **about}))
    return folder / CROISSANT_NAME


def what_is_in(index: StoreIndex) -> str:
    """Say what a store holds."""
    rows = ", ".join(f"{index.rows(split)} {split}" for split in index.splits)
    return (
        f"{_DESCRIBED} {index.image_size} x {index.image_size} pixels ({rows}), each with an expression label "
        f"({', '.join(index.classes)}), 68 landmarks and a map of action units."
    )


def described_file(path: Path) -> DescribedFile:
    """Measure a file."""
    return DescribedFile(path.name, path.stat().st_size, sha256_file(path))


def is_outdated(folder: Path) -> bool:
    """Tell whether a store's metadata describes another index than the one beside it, or cannot be read."""
    try:
        files = read_json(folder / CROISSANT_NAME, dict[str, Any])["distribution"]
        (stated,) = [file["sha256"] for file in files if file["@id"] == INDEX_NAME]
    except (UnreadableTextError, KeyError, TypeError, ValueError):
        return True
    return bool(stated != sha256_file(folder / INDEX_NAME))
