"""What ends a command early: `main` prints the message and returns the exit code."""


class CommandError(Exception):
    """The command could not do its work; the message says why."""

    exit_code = 1


class BadInput(CommandError):
    """What the user named cannot be used."""

    exit_code = 2
