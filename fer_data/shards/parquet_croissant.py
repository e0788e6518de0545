"""Croissant metadata of exported Parquet files: their rows as records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aupipe.fer_data.files import write_json
from aupipe.fer_data.shards import Store
from aupipe.fer_data.shards.croissant import CROISSANT_NAME, described_file, kept_about, metadata, what_is_in
from aupipe.fer_data.shards.export_parquet import ARRAYS, FILES, present_columns
from aupipe.fer_data.shards.spec import descriptions

TABLES = "tables"
_TYPES = {"float32": "cr:Float32", "float64": "cr:Float64", "uint8": "cr:UInt8"}


def describe_tables(store: Store, out: Path, files: Sequence[str], about: Mapping[str, str]) -> None:
    """Write the metadata of a finished export beside its files."""
    index = store.index
    description = f"{what_is_in(index)} Made from the store of triplets with the digest {index.digest}."
    tables = {
        "@type": "cr:FileSet",
        "@id": TABLES,
        "name": TABLES,
        "encodingFormat": "application/x-parquet",
        "includes": "*.parquet",
    }
    names = present_columns(store.split(index.splits[0]))
    faces = {
        "@type": "cr:RecordSet",
        "@id": "faces",
        "name": "faces",
        "description": "A face a record.",
        "field": [_field(name, index.classes) for name in names],
    }
    described = [described_file(out / name) for name in files]
    write_json(
        out / CROISSANT_NAME, metadata(index, description, described, {**kept_about(out), **about}, [tables], [faces])
    )


def _field(name: str, classes: Sequence[str]) -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": TABLES}, "extract": {"column": name}}
    said = {
        "label": f"expression: {', '.join(f'{number} {one}' for number, one in enumerate(classes))}",
        "split": "train, val or test",
        "au_map": f"{descriptions()['au_map'][0]}; 255 is 1.0; absent where there are none",
    }
    field = {"@type": "cr:Field", "@id": f"faces/{name}", "name": name, "source": source}
    field["description"] = said.get(name) or descriptions()[name][0]
    if name in FILES:
        return {**field, "dataType": "sc:ImageObject", "source": {**source, "transform": {"jsonPath": "bytes"}}}
    if name in ARRAYS:
        dtype, shape = ARRAYS[name]
        size = ",".join(map(str, shape))
        return {**field, "dataType": _TYPES[dtype], **({"isArray": True, "arrayShape": size} if shape else {})}
    return {**field, "dataType": "sc:Integer" if name == "label" else "sc:Text"}
