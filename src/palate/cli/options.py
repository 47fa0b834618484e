"""Options shared by several commands, and paths in options."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from typer import Argument, BadParameter, Option
from typer.core import TyperCommand

_REGISTRY = re.compile(r"\{(predictors|rankers|rating_predictors)\}")

RunArgument: TypeAlias = Annotated[
    Path,
    Argument(
        metavar="RUN",
        help="Run folder,  packaged  for the model that comes with palate, or OWNER/NAME on the hub.",
    ),
]
BackboneOption: TypeAlias = Annotated[
    str | None,
    Option(metavar="FOLDER", help="Folder of a backbone that is not saved with the run, if it was moved."),
]
DeviceOption: TypeAlias = Annotated[
    str,
    Option(metavar="auto|cpu|cuda:N", help="Device of the model; auto is the first GPU, or else the CPU."),
]
EngineOption: TypeAlias = Annotated[
    Literal["local", "ray"],
    Option(help="Where workers run: as processes of this machine, or on the Ray cluster of RAY_ADDRESS."),
]
WorkersOption: TypeAlias = Annotated[
    int,
    Option(
        min=1,
        help="Number of worker processes, each of which takes seconds to start; the parts of one that dies are "
        "computed again.",
    ),
]

ConstrainedOption: TypeAlias = Annotated[
    bool | None,
    Option(
        "--constrained/--free",
        help="Whether decoding is constrained by the task's grammar (categories of the catalogue, each at most once, "
        "liked or disliked); the model's setting if not given.",
    ),
]


class CommandThatNamesKinds(TyperCommand):
    """Command whose help lists registered kinds in place of ``{predictors}``, ``{rankers}`` and the like.

    The registry is read only when help is printed, as loading palate's kinds and those of installed packages takes
    seconds.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help with the kinds of :mod:`palate.config.registry`."""
        self.name_kinds()
        super().format_help(ctx, formatter)

    def name_kinds(self) -> None:
        """Insert the registered kinds into the parameters' help."""
        from palate.config import registry

        for parameter in self.params:
            if text := getattr(parameter, "help", None):
                parameter.help = _REGISTRY.sub(  # type: ignore[attr-defined]
                    lambda found: ", ".join(getattr(registry, found[1]).kinds), text
                )


class CommandOfTheEnvironment(CommandThatNamesKinds):
    """Command whose options may also be set by environment variables, as PALATE_SERVE_API_KEY_FILE for --api-key-file.

    The variable of a repeatable option holds its values separated by blanks.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        for parameter in self.params:
            others = [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or []
            own = variable_of(str(self.name), str(parameter.name))
            parameter.envvar = [own, *others] if others else own


UNREAD_TEXTS = "texts of the history are not read: the model was not trained with model.event_texts"
"""Told of a history whose events have texts, where the model reads none."""


def variable_of(command: str, option: str) -> str:
    """Return the environment variable of a command's option or argument, given by its name in Python."""
    return f"PALATE_{command}_{option}".upper()


def paths_at_home(command: Callable[..., None]) -> Callable[..., None]:
    """Expand a leading ``~`` in a command's paths, which shells do not do in ``--out=~/runs``."""

    @wraps(command)
    def run(**given: Any) -> None:
        command(**{name: _at_home(value) for name, value in given.items()})

    return run


def option_at_home(value: str | None) -> str | None:
    """Expand a leading ``~`` in the value of an option that may be a path or a name; a callback of typer."""
    return str(_at_home(Path(value))) if value is not None and value.startswith("~") else value


def _at_home(value: Any) -> Any:
    from palate.system.places import at_home

    if isinstance(value, list):
        return [_at_home(one) for one in value]
    if not isinstance(value, Path):
        return value
    try:
        return at_home(value)
    except ValueError as error:
        raise BadParameter(f"{str(value)!r} {error}") from None


WriterOption: TypeAlias = Annotated[
    str | None,
    Option(
        metavar="NAME",
        callback=option_at_home,
        help="Pretrained decoder-only model that words the facts of an answer anew: a hub name, a folder, a .gguf "
        "file, packaged:gemma3-270m, or  own  for the run's frozen backbone; templates are filled if not given.",
    ),
]
