"""The triplet store: HDF5 shards of (image, label, AU map) and an index that is written last.

``spec`` names every dataset, ``encoding`` says how images are kept, ``writer`` makes one shard, ``shard_file`` is one
that is open, ``index`` describes the whole store, ``reader`` opens it, ``verify`` checks it. The format is specified in
``docs/shard-format.md``.
"""

from aupipe.fer_data.shards.index import ShardEntry, StoreIndex, load_index
from aupipe.fer_data.shards.reader import SplitReader, Store, open_store
from aupipe.fer_data.shards.shard_file import Finding
from aupipe.fer_data.shards.spec import SCHEMA_VERSION, ShardHeader, TripletRow
from aupipe.fer_data.shards.verify import verify_shard, verify_store
from aupipe.fer_data.shards.writer import write_shard

__all__ = [
    "SCHEMA_VERSION",
    "Finding",
    "ShardEntry",
    "ShardHeader",
    "SplitReader",
    "Store",
    "StoreIndex",
    "TripletRow",
    "load_index",
    "open_store",
    "verify_shard",
    "verify_store",
    "write_shard",
]
