"""Runs and saved models on the hub: finding, downloading and uploading."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

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


class SharedModel(ABC):
    """A trained model that can be saved to a folder and uploaded to the hub."""

    noun: ClassVar[str] = "model"
    """What commits to the hub call it."""
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
        commit_message: str | None = None,
        token: str | None = None,
        licence: str | None = None,
    ) -> str:
        """Upload it to the hub in one commit: its files, a model card that says what they hold, recipe and manifest.

        Args:
            name: ``OWNER/NAME`` on the hub; made if it does not exist.
            private: Whether a new one is private; as the owner's settings say if None.
            revision: The branch, made if it does not exist; the main branch if None.
            commit_message: Message of the commit; by default it says what is uploaded.
            token: Token of the hub; the one of ``hf auth login`` if None.
            licence: Licence for the model card, as the hub names it, such as "cc-by-4.0".

        Returns:
            The commit's URL.

        Raises:
            OutputError: The hub cannot be reached, or refuses it.
        """
        with TemporaryDirectory(prefix="palate-") as place:
            folder = Path(place) / "model"
            self.save_pretrained(folder)
            write_text(folder / CARD, self.card_named(name, licence))
            if self.run is not None and self.run.there:
                _share_run(self.run, RunFolder(folder))
            message = commit_message or f"Upload a palate {self.noun}"
            return upload_model(
                folder, name, private=private, revision=revision, message=message, token=token
            )


def _share_run(run: RunFolder, shared: RunFolder) -> None:
    """Copy a run's recipe and manifest, without where its data lies."""
    manifest = run.manifest
    write_text(shared.recipe_file, dump_recipe(shareable(run.recipe, manifest.data_name)))
    checksums = {Path(file).name: found for file, found in manifest.data_checksums.items()}
    unsaid = manifest.model_copy(
        update={"command": "palate train", "data_from_run": None, "data_checksums": checksums}
    )
    write_text(shared.manifest_file, unsaid.model_dump_json(indent=2) + "\n")
