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
    Argument(metavar="RUN", help="The run's folder, or  packaged  for the model that comes with palate."),
]
BackboneOption: TypeAlias = Annotated[
    str | None,
    Option(metavar="FOLDER", help="Folder of a backbone that is not saved with the run, if it has moved."),
]
DeviceOption: TypeAlias = Annotated[
    str,
    Option(metavar="auto|cpu|cuda:N", help="Device of the model; auto is the first GPU if there is one."),
]
EngineOption: TypeAlias = Annotated[
    Literal["local", "ray"],
    Option(help="Processes of this machine, or a Ray cluster: the one that RAY_ADDRESS names."),
]
WorkersOption: TypeAlias = Annotated[
    int, Option(min=1, help="Processes that share the work; parts are done again where one dies.")
]

ConstrainedOption: TypeAlias = Annotated[
    bool | None,
    Option(
        "--constrained/--free",
        help="Constrain answers to what the task allows (every category at most once, in one half, from the "
        "catalogue), or not; as the model was saved if not given.",
    ),
]


class CommandThatNamesKinds(TyperCommand):
    """Names the registered kinds in its help, where that says ``{predictors}``, ``{rankers}`` or the like.

    They are looked up when help is asked for, as palate's own and those of installed packages take seconds to load.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help with the kinds of :mod:`palate.config.registry`."""
        self.name_kinds()
        super().format_help(ctx, formatter)

    def name_kinds(self) -> None:
        """Put the registered kinds into the parameters' help."""
        from palate.config import registry

        for parameter in self.params:
            if text := getattr(parameter, "help", None):
                parameter.help = _REGISTRY.sub(  # type: ignore[attr-defined]
                    lambda found: ", ".join(getattr(registry, found[1]).kinds), text
                )


class CommandOfTheEnvironment(CommandThatNamesKinds):
    """Reads what the command line does not give from the environment: PALATE_SERVE_API_KEY_FILE is --api-key-file.

    An option that may be repeated has its values there with blanks in between.
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
    """Name the environment variable of a command's option, or argument, by its name in Python."""
    return f"PALATE_{command}_{option}".upper()


def paths_at_home(command: Callable[..., None]) -> Callable[..., None]:
    """Let a leading ``~`` in a command's paths be the home folder: shells do not expand it in ``--out=~/runs``."""

    @wraps(command)
    def run(**given: Any) -> None:
        command(**{name: _at_home(value) for name, value in given.items()})

    return run


def option_at_home(value: str | None) -> str | None:
    """Return the value of an option that is a path or a name: the callback of one that is text to the parser."""
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
