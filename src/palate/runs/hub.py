"""Runs and saved models on the hub: finding, downloading and uploading."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from palate.config.load import dump_recipe
from palate.errors import MismatchError
from palate.runs.run import RunFolder, download_run, run_folder
from palate.system.files import write_text
from palate.system.hub import is_hub_name, upload_model
from palate.system.places import shareable

CARD = "README.md"


def found_run(name: Path | str, revision: str | None = None) -> RunFolder:
    """Find a run, or the files of a model alone, by a folder or a name; the hub is asked for its newest commit.

    Args:
        name: The folder, ``packaged``, or ``OWNER/NAME`` on the hub.
        revision: Branch, tag or commit of one of the hub.

    Raises:
        DataError: There is no such model on the hub.
        MismatchError: A folder has no revision.
    """
    if is_hub_name(name):
        return download_run(str(name), revision)
    if revision is not None:
        raise MismatchError(f"{name} is a folder, which has no revision {revision!r}; leave it out")
    return run_folder(name)


def saved_folder(name: Path | str, revision: str | None = None) -> Path:
    """Return the folder that holds the files of ``save_pretrained``; errors as those of :func:`found_run`."""
    return found_run(name, revision).path


def upload_saved(
    save: Callable[[Path], None],
    card: str,
    run: RunFolder | None,
    name: str,
    *,
    private: bool | None,
    revision: str | None,
    message: str,
    token: str | None,
) -> str:
    """Upload what is saved, and of the run that trained it the recipe and the manifest, in one commit.

    Args:
        save: Saves the files to a new folder.
        card: The model card, which takes the place of the saved one.
        run: The run that trained it; None if there is none.
        name: ``OWNER/NAME`` on the hub; made if it does not exist.
        private: Whether a new one is private; as the owner's settings say if None.
        revision: The branch, made if it does not exist; the main branch if None.
        message: Message of the commit.
        token: Token of the hub; the one of ``hf auth login`` if None.

    Returns:
        The commit's URL.

    Raises:
        OutputError: The hub cannot be reached, or refuses it.
    """
    with TemporaryDirectory(prefix="palate-") as place:
        folder = Path(place) / "model"
        save(folder)
        write_text(folder / CARD, card)
        if run is not None and run.there:
            shared, manifest = RunFolder(folder), run.manifest
            write_text(shared.recipe_file, dump_recipe(shareable(run.recipe, manifest.data_name)))
            checksums = {Path(file).name: found for file, found in manifest.data_checksums.items()}
            unsaid = manifest.model_copy(
                update={"command": "palate train", "data_from_run": None, "data_checksums": checksums}
            )
            write_text(shared.manifest_file, unsaid.model_dump_json(indent=2) + "\n")
        return upload_model(folder, name, private=private, revision=revision, message=message, token=token)


class SharedModel(ABC):
    """A trained model that can be saved to a folder and uploaded to the hub."""

    run: RunFolder | None
    """The run that trained it; None if it was not loaded from a run."""

    @abstractmethod
    def card_named(self, name: str, licence: str | None = None) -> str:
        """Write the model card with the name that it is loaded by, and its licence."""

    @abstractmethod
    def save_pretrained(self, folder: Path | str) -> None:
        """Save the files and a model card to a new or empty folder."""

    @property
    def card(self) -> str:
        """Write the model card, in Markdown."""
        return self.card_named("this folder")

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload a palate model",
        token: str | None = None,
        licence: str | None = None,
    ) -> str:
        """Upload it to the hub in one commit: its files, a model card that says what they hold, recipe and manifest.

        Args:
            name: ``OWNER/NAME`` on the hub; made if it does not exist.
            private: Whether a new one is private; as the owner's settings say if None.
            revision: The branch, made if it does not exist; the main branch if None.
            commit_message: Message of the commit.
            token: Token of the hub; the one of ``hf auth login`` if None.
            licence: Licence for the model card, as the hub names it, such as "cc-by-4.0".

        Returns:
            The commit's URL.

        Raises:
            OutputError: The hub cannot be reached, or refuses it.
        """
        return upload_saved(
            self.save_pretrained,
            self.card_named(name, licence),
            self.run,
            name,
            private=private,
            revision=revision,
            message=commit_message,
            token=token,
        )
