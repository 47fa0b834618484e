"""The command-line application: registration of commands, ``--version``, and error output."""

from __future__ import annotations

import errno
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from palate.cli.answers import answers
from palate.cli.ask import ask
from palate.cli.check_backbone import check_backbone
from palate.cli.console import print_whatever_can_be_printed, show, tell
from palate.cli.demo import demo
from palate.cli.doctor import doctor
from palate.cli.encode_items import encode_items
from palate.cli.evaluate import evaluate
from palate.cli.explain import explain
from palate.cli.export import export
from palate.cli.fold import fold
from palate.cli.generate import generate
from palate.cli.inspect import inspect
from palate.cli.options import CommandOfTheEnvironment, CommandThatNamesKinds, paths_at_home
from palate.cli.prepare import prepare
from palate.cli.pretrain import pretrain
from palate.cli.questions import questions
from palate.cli.rank import rank
from palate.cli.recommend import choose, rate, recommend
from palate.cli.reproduce import reproduce
from palate.cli.serve import serve
from palate.cli.signals import exit_code, stop_in_order
from palate.cli.store import store_app
from palate.cli.summarise import summarise
from palate.cli.train import train
from palate.config.renames import OPTIONS, renamed
from palate.errors import OldKeyError, PalateError

_AFTER_INTERRUPT = {
    "prepare": "nothing was written; run it again",
    "train": "run the same command again to resume from the last checkpoint",
    "export": "run the same command again to resume",
    "reproduce": "run the same command again; finished cells are not trained again",
    "demo": "run it again to resume",
    "recommend": "run the same command again; a table is resumed",
    "answers": "run the same command again to resume",
    "encode-items": "run the same command again to resume",
    "fold": "run the same command again to resume",
    "store": "run the same command again to resume",
    "serve": "all acknowledged events are in the store",
}


class _PalateGroup(TyperGroup):
    """Command group that prints palate's errors as one line, with exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            _refuse_renamed(ctx.args)
            return super().invoke(ctx)
        except (PalateError, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of the output has closed the pipe
            if ctx.params["verbose"]:
                traceback.print_exc()
            tell(f"palate: {_one_line(error)}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt as interrupt:
            hint = _AFTER_INTERRUPT.get(ctx.invoked_subcommand, "run it again")
            tell(f"\npalate: stopped; {hint}")
            raise typer.Exit(exit_code(interrupt)) from None


def _refuse_renamed(arguments: list[str]) -> None:
    for argument in arguments:
        if said := renamed(argument.partition("=")[0], OPTIONS):
            raise OldKeyError(said)


def _one_line(error: PalateError | OSError) -> str:
    """Format an error as one line; an unconverted OSError by the system's message."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return " ".join(text.split()) or type(error).__name__


app = typer.Typer(
    name="palate",
    cls=_PalateGroup,
    help="Learn a user's taste from a long history and hand it to a language model as soft prompts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for _command in (
    ask,
    answers,
    prepare,
    inspect,
    train,
    pretrain,
    evaluate,
    questions,
    rank,
    explain,
    generate,
    recommend,
    rate,
    choose,
    export,
    encode_items,
    fold,
    check_backbone,
    summarise,
    demo,
    reproduce,
    doctor,
):
    app.command(cls=CommandThatNamesKinds)(paths_at_home(_command))
app.command("serve", cls=CommandOfTheEnvironment)(paths_at_home(serve))
app.add_typer(store_app, name="store")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        show(f"palate {version('palate')}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", help="Print the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Declare the options before the command."""


def main() -> None:
    """Run the command line."""
    stop_in_order()
    print_whatever_can_be_printed()
    sys.exit(app())
