"""The command door: `relight VERB`. Registers the verbs, and says in one line what stopped one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from .configs.protocol import ExitCode
from .verbs import errors, exporting, importing, looking, moving, reporting, running

app = typer.Typer(
    name="relight",
    help="Keeps PyTorch training runs alive.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_FOREIGN_FLAGS = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}

# In the order in which they are met: train, look, take elsewhere, tidy, break.
app.command(context_settings=_FOREIGN_FLAGS, add_help_option=False)(running.run)
app.command()(running.status)
app.command()(reporting.report)
app.command()(looking.ls)
app.command()(looking.show)
app.command()(looking.verify)
app.command()(looking.diff)
app.command()(exporting.export)
app.command("import")(importing.import_)
app.command()(moving.cp)
app.command()(moving.gc)
app.command()(running.chaos)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; every foreseen error is one line, never a traceback. Ends with SystemExit."""
    errors.log_as_we_speak()
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except Exception as error:
        answer = errors.foreseen(error)
        if answer is None:
            raise
        line, code = answer
        if line:
            errors.say(line)
    raise SystemExit(int(code))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        app(args=arguments, prog_name="relight")
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
        if code == ExitCode.INTERRUPTED:  # Ctrl-C, as typer answers it: without a word.
            errors.say("interrupted")
        return code
    return ExitCode.FINISHED


if __name__ == "__main__":
    main()
