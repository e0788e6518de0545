"""Names as people write them, and as they are registered."""

from __future__ import annotations

import re
from collections.abc import Iterable


def registered_name(name: str, known: Iterable[str]) -> str:
    """Find the registered name that somebody means, whatever the case, hyphens and plus signs; else return the name.

    >>> [registered_name(name, ["gradcampp", "tscam"]) for name in ("Grad-CAM++", "ts_cam", "score-cam")]
    ['gradcampp', 'tscam', 'score-cam']
    """
    spelled = {_bare(one): one for one in known}
    return spelled.get(_bare(name), name)


def _bare(name: str) -> str:
    return re.sub(r"\W|_", "", name.casefold().replace("+", "p").replace("plus", "p"))
