"""The library pyarrow, which Parquet files need and which not everybody has."""

from __future__ import annotations

from types import ModuleType

from aupipe.fer_data.errors import UserInputError, paragraph


def load_pyarrow(instead: str) -> ModuleType:
    """Load pyarrow with its Parquet part.

    Args:
        instead: What serves without it, as the end of a sentence.

    Raises:
        UserInputError: It is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserInputError(
            paragraph(
                "A Parquet table needs the library pyarrow, which is not installed.",
                fix=f"pip install 'aupipe[parquet]' brings it; {instead}.",
            )
        ) from error
    module: ModuleType = pyarrow
    return module
