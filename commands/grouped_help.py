"""The help of a command with many options: settings of a training under their headings."""

from __future__ import annotations

from dataclasses import fields

import click

from aupipe.fer_models.training.config import TrainConfig

OWN = "Options"
"""Heading of the options that are no setting of a training."""


class GroupedHelp(click.Command):
    """A command whose help lists its own options first, then those that are settings of a training, group by group.

    The groups and their order are those of the fields of :class:`TrainConfig`.
    """

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write every option once."""
        groups = {setting.name: setting.metadata["group"] for setting in fields(TrainConfig)}
        sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in (OWN, *groups.values())}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)) is not None:
                sections[groups.get(parameter.name or "", OWN)].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)
