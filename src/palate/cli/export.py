"""The ``palate export`` command: writes users' prompts for another engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import BadParameter, Option

from palate.cli.console import show, tell, tell_device, watched
from palate.cli.options import BackboneOption, DeviceOption, RunArgument

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.schema import History, Split


def export(
    run: RunArgument,
    out: Annotated[Path, Option(help="New folder for the prompts and their manifest.")],
    user: Annotated[list[str] | None, Option(help="User id in the data; may be repeated.")] = None,
    users: Annotated[Path | None, Option(help="File with one user id per line.")] = None,
    split: Annotated[
        Literal["train", "dev", "test"] | None, Option(help="Split, all of whose users are exported.")
    ] = None,
    history: Annotated[
        list[Path] | None,
        Option(help="A history: a JSON, JSON lines or CSV file, whose name is the user id; may be repeated."),
    ] = None,
    instruction: Annotated[
        list[str] | None,
        Option(
            help='Instruction for which complete prompts are written too; "" stands for the trained one. May be '
            "repeated."
        ),
    ] = None,
    api: Annotated[
        Literal["completions", "chat"],
        Option(
            help="Engine route of the complete prompts: completions, or chat, for which the engine adds its chat "
            "template."
        ),
    ] = "completions",
    data: Annotated[
        Path | None,
        Option(help="Dataset of the users, or of the packaged model; the run's own if not given."),
    ] = None,
    backbone: BackboneOption = None,
    device: DeviceOption = "auto",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"],
        Option(help="Data type of the prompts, that of the backbone in the engine."),
    ] = "float32",
    weights: Annotated[
        Literal["backbone", "adapter"] | None,
        Option(
            help="Weights to write too: the backbone, with LoRA merged, or the LoRA adapter only; none if not given."
        ),
    ] = None,
) -> None:
    """Write users' prompts for another engine, such as vLLM."""
    if not (user or users or split or history):
        raise BadParameter("give --user, --users, --split or --history")
    if any(one and not one.strip() for one in instruction or ()):
        raise BadParameter(
            'it is blank; give an instruction, or "" for the trained one', param_hint="'--instruction'"
        )
    from palate.data.history_file import read_history
    from palate.export.manifest import check_instructions, check_weights
    from palate.model.named import find_model
    from palate.runs.data import dataset_of
    from palate.runs.run import load_run
    from palate.system.files import check_fresh, check_writable

    check_fresh(out)
    check_writable(out.resolve().parent)
    asks_data = bool(user or users or split)
    source = load_run(run) if asks_data and data is None else None
    named = find_model(run, backbone, data)
    check_weights(named.settings, weights)
    check_instructions(run, instruction or ())
    given = [read_history(file, named.settings.unrated) for file in history or ()]
    dataset = (named.dataset or dataset_of(source, data)) if asks_data else None
    ids = [] if dataset is None else _user_ids(dataset, user or [], users, split)

    from palate.export.write import export_prompts
    from palate.system.progress import counting_bar

    with counting_bar("Encoding users", watched()) as bar:
        manifest = export_prompts(
            run,
            _histories(dataset, ids, [one for one, _ in given]),
            out,
            instructions=instruction or (),
            api=api,
            dtype=dtype,
            weights=weights,
            new_items={one.user_id: items for one, items in given},
            data_fingerprint=None if dataset is None else dataset.info.fingerprint,
            report=lambda done: bar(done, len(ids) + len(given)),
            backbone=backbone,
            device=device,
            data=named.dataset,
        )
    tell_device(manifest.device)
    if manifest.backbone.train != "frozen" and weights is None:
        tell("the engine needs the trained weights of the backbone too: --weights backbone writes them")
    show(str(out))


def _user_ids(dataset: Dataset, named: list[str], file: Path | None, split: Split | None) -> list[str]:
    """Collect the user ids without duplicates; raises :class:`DataError` for unknown ones."""
    from palate.errors import DataError

    ids = dict.fromkeys(named)
    for user_id in ids:
        dataset.user_index(user_id)
    for number, user_id in enumerate(_lines(file), start=1):
        try:
            dataset.user_index(user_id)
        except DataError as error:
            raise DataError(str(error), file, number) from error
        ids[user_id] = None
    if split is not None:
        ids |= dict.fromkeys(dataset.user_ids[index] for index in dataset.users(split))
    return list(ids)


def _lines(file: Path | None) -> list[str]:
    from palate.errors import DataError

    if file is None:
        return []
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")  # ids may contain other line separators
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot be read as UTF-8 text ({error}); give a file with one user id per line", file
        ) from error
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DataError("found no user ids, expected one per line", file)
    return [line.strip() for line in lines]


def _histories(dataset: Dataset | None, ids: list[str], given: list[History]) -> Iterator[History]:
    """Yield the histories one by one, as all of a large dataset may not fit into memory."""
    if dataset is not None:
        for user_id in ids:
            yield from dataset.histories([user_id])
    yield from given
