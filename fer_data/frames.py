"""Tables as pandas data frames; pandas is optional (extra ``aupipe[pandas]``).

Cells without a value are ``pandas.NA``, in columns whose type knows it.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TextIO

import numpy as np
from jaxtyping import Bool

from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_display.tables import plain_cell

if TYPE_CHECKING:
    import pandas


def load_pandas() -> ModuleType:
    """Load pandas. Raises :class:`UserInputError` when it is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise UserInputError(
            paragraph(
                "A data frame needs the library pandas, which is not installed.",
                fix="pip install 'aupipe[pandas]' brings it.",
            )
        ) from error
    module: ModuleType = pandas
    return module


def csv_frame(table: Path | TextIO, texts: Collection[str]) -> pandas.DataFrame:
    """Read a CSV table; the columns ``texts`` stay as they are written, whatever they look like."""
    frame = load_pandas().read_csv(
        table,
        dtype=dict.fromkeys(texts, "string"),
        dtype_backend="numpy_nullable",
        na_values=[""],
        keep_default_na=False,
        encoding="utf-8",
    )
    for name in frame.columns.intersection(list(texts)):
        frame[name] = frame[name].map(plain_cell, na_action="ignore").astype("string")
    return frame


def masked_column(values: np.ndarray, valid: Bool[np.ndarray, "n"]) -> pandas.Series:
    """Make a column of numbers that are absent where ``valid`` is False."""
    library = load_pandas()
    kinds = {"f": library.arrays.FloatingArray, "i": library.arrays.IntegerArray}
    return library.Series(kinds[values.dtype.kind](np.ascontiguousarray(values), ~valid))
