"""Looking at codebooks, checking one's own, comparing two."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from aupipe.commands.console import PATH, check_picture, output_options, show

MINE = """
\b
Your own takes six lines, for example in mine.toml:
    schema = 1
    name = "mine"
    regions = "default"
    [expressions]
    happiness = { AU6 = 0.5, AU12 = 1.0 }
    sadness = [1, 4, 15]
"""

GROUP_HELP = f"""The tables that say which action units belong to an expression, and where they are drawn.
{MINE}"""


@click.group(help=GROUP_HELP)
def codebook() -> None:
    """Hold the commands on codebooks; the help is :data:`GROUP_HELP`."""


@codebook.command("show")
@click.argument("name", required=False)
@click.option("--png", type=PATH, metavar="FILE", help="Also draw every expression and every AU over a face.")
@output_options
def codebook_show(name: str | None, png: Path | None, as_json: bool) -> None:
    """Show a codebook, or list the built-in ones.

    \b
    Example: aupipe codebook show default --png default.png
    """
    from aupipe.fer_data.au_maps.codebook import builtin_codebooks, describe, load_codebook

    if name is None:
        if png is not None:
            raise click.UsageError("--png needs the name of a codebook.")
        books = [load_codebook(builtin) for builtin in builtin_codebooks()]
        show([f"{b.name:<14}{b.description}" for b in books], {b.name: b.description for b in books}, as_json)
        return
    book = load_codebook(name)
    lines, content = describe(book), {**book.content, "digest": book.digest}
    if png is not None:
        from aupipe.fer_data.au_maps.codebook_sheet import draw_codebook
        from aupipe.fer_data.files import write_bytes
        from aupipe.fer_display.figures import png_bytes

        write_bytes(_png(png), png_bytes(draw_codebook(book)))
        lines, content = [*lines, "", f"drawn: {png}"], {**content, "png": str(png)}
    show(lines, content, as_json)


CHECK_HELP = f"""List everything that is wrong or odd in a codebook: a TOML file, or a built-in one.

The exit code is 1 when there is an error; warnings alone leave it 0. --against compares each expression with the action
units that people coded on its faces (the manifest's column aus), where the codebook has no error.
{MINE}
\b
Example: aupipe codebook check mine.toml
         aupipe codebook check du2014 --against faces.csv
"""


@codebook.command("check", help=CHECK_HELP)
@click.argument("name")
@click.option("--against", type=PATH, metavar="M.csv", help="Also compare it with the coded faces of a manifest.")
@output_options
def codebook_check(name: str, against: Path | None, as_json: bool) -> int:
    """List everything that is wrong or odd in a codebook; the help is :data:`CHECK_HELP`."""
    from aupipe.fer_data.au_maps.codebook_check import ERROR, check_codebook

    findings = check_codebook(name)
    errors = sum(finding.level == ERROR for finding in findings)
    lines = [str(finding) for finding in findings]
    lines.append(f"{name}: {errors} errors, {len(findings) - errors} warnings")
    content: dict[str, Any] = {"codebook": name, "errors": errors, "findings": [asdict(one) for one in findings]}
    if against is not None and not errors:
        from aupipe.fer_analysis.coded_expressions import check_against
        from aupipe.fer_data.au_maps.codebook import load_codebook

        agreement = check_against(load_codebook(name), against)
        lines, content = [*lines, "", *agreement.lines()], {**content, "against": agreement.as_json()}
    show(lines, content, as_json)
    return 1 if errors else 0


@codebook.command("diff")
@click.argument("a")
@click.argument("b")
@click.option("--png", type=PATH, metavar="FILE", help="Also draw both codebooks' maps and their difference.")
@output_options
def codebook_diff(a: str, b: str, png: Path | None, as_json: bool) -> None:
    """Show how two codebooks differ: AUs, weights and regions per expression, and how alike the maps are.

    \b
    Example: aupipe codebook diff default du2014 --png difference.png
    """
    from aupipe.fer_data.au_maps.codebook import load_codebook
    from aupipe.fer_data.au_maps.codebook_diff import diff_codebooks

    first, second = load_codebook(a), load_codebook(b)
    diff = diff_codebooks(first, second)
    lines, content = diff.lines(), diff.as_json()
    if png is not None:
        from aupipe.fer_data.au_maps.codebook_sheet import draw_diff
        from aupipe.fer_data.files import write_bytes
        from aupipe.fer_display.figures import png_bytes

        write_bytes(_png(png), png_bytes(draw_diff(first, second, diff)))
        lines, content = [*lines, "", f"drawn: {png}"], {**content, "png": str(png)}
    show(lines, content, as_json)


def _png(path: Path) -> Path:
    """Return the path, when a PNG can be written there."""
    if path.suffix.lower() != ".png":
        raise click.UsageError(f"--png writes a PNG file: {path} does not end in .png.")
    if not path.parent.is_dir():
        raise click.UsageError(f"The folder of {path} does not exist.")
    check_picture(path)
    return path
