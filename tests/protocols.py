"""Whether an object fulfils a Protocol: ``isinstance`` looks at the names of its members alone."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

from beartype.door import is_bearable


def assert_fulfils(made: object, protocol: type) -> None:
    """Attributes have values of the stated types; methods take the stated arguments with the same defaults."""
    members = {name: member for name, member in vars(protocol).items() if not name.startswith("_")}
    assert members, f"{protocol} states nothing"
    for name, member in members.items():
        if isinstance(member, property):
            value, hint = getattr(made, name), get_type_hints(member.fget)["return"]
            assert is_bearable(value, hint), f"{name}: {hint} is stated, {value!r} found"
        else:
            assert _arguments(getattr(made, name)) == _arguments(member)[1:], name


def _arguments(function: Any) -> list[tuple[str, Any, Any]]:
    return [(one.name, one.kind, one.default) for one in inspect.signature(function).parameters.values()]
