"""Looking at codebooks."""

from __future__ import annotations

import click

from commands.console import json_option, show


@click.group()
def codebook() -> None:
    """The tables that say which action units belong to an expression, and where they are drawn."""


@codebook.command("show")
@click.argument("name", required=False)
@json_option
def codebook_show(name: str | None, as_json: bool) -> None:
    """Show a codebook, or list the built-in ones.

    \b
    Example: aupipe codebook show default
    """
    from fer_data.codebook import builtin_codebooks, describe, load_codebook

    if name is None:
        books = [load_codebook(builtin) for builtin in builtin_codebooks()]
        show([f"{b.name:<12}{b.description}" for b in books], {b.name: b.description for b in books}, as_json)
        return
    book = load_codebook(name)
    show(describe(book), {**book.content, "digest": book.digest}, as_json)
