"""Checking the installation."""

from __future__ import annotations

import click

from aupipe.commands.console import output_options, show


@click.command()
@output_options
def doctor(as_json: bool) -> int:
    """Check this installation and say how to repair it.

    \b
    Example: aupipe doctor
    """
    from aupipe.pipeline.doctor import run_checks

    checks = run_checks()
    lines = []
    for check in checks:
        lines.append(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<14}{check.found}")
        if not check.ok:
            lines.append(f"      {check.repair}")
    content = {"ok": all(check.ok for check in checks), "checks": [check.__dict__ for check in checks]}
    show(lines, content, as_json)
    return 0 if content["ok"] else 1
