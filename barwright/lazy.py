"""Commands that stand beside the work they do, imported when they are called and not to be listed."""

from importlib import import_module
from typing import ClassVar

import click


class LazyGroup(click.Group):
    """A group that knows some commands by name and sentence only: `elsewhere` maps a name to (module, sentence).

    The module's `command` is the command.
    """

    elsewhere: ClassVar[dict[str, tuple[str, str]]]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name."""
        return sorted([*super().list_commands(ctx), *self.elsewhere])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """For listing: a command with its sentence."""
        if cmd_name in self.elsewhere:
            return click.Command(cmd_name, short_help=self.elsewhere[cmd_name][1])
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """For calling: the command itself."""
        if args[0] in self.elsewhere:
            return args[0], import_module(self.elsewhere[args[0]][0]).command, args[1:]
        return super().resolve_command(ctx, args)
