"""A world of commands: source data, sentence encoder and recipe, and the outputs of each command."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faulty import Commands, Ended, Fault, Setting

from palate.config.load import dump_recipe
from palate.export.noted import NOTED
from tiny import tiny_recipe

NAMES = ("prepare", "train", "export")


@dataclass
class World:
    """A folder for ``data``, ``run`` and ``prompts``, created from the same inputs as in any other world."""

    folder: Path
    commands: Commands
    source: Path
    encoder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        recipe = tiny_recipe(
            self.data,
            self.encoder,
            self.folder / "cache",
            train={"max_steps": 6, "eval_steps": 2, "eval_users": 3, "per_device_train_batch_size": 4},
        )
        (self.folder / "recipe.yaml").write_text(dump_recipe(recipe))

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def run_folder(self) -> Path:
        return self.folder / "run"

    @property
    def prompts(self) -> Path:
        return self.folder / "prompts"

    def arguments(self, name: str) -> list[object]:
        """Return the arguments of a command by name."""
        return {
            "prepare": ["prepare", self.source, "--out", self.data, "--dev-share", 0.2, "--test-share", 0.2],
            "train": ["train", self.folder / "recipe.yaml", "--out", self.run_folder],
            "export": [
                "export",
                self.run_folder,
                "--out",
                self.prompts,
                "--split",
                "train",
                "--weights",
                "backbone",
            ],
            "evaluate": ["evaluate", self.run_folder],
            "inspect": ["inspect", self.data, "--html", self.folder / "inspection.html"],
            "generate": ["generate", self.run_folder, "--user", "1"],
        }[name]

    def start(self, name: str, at: int, *signals: int) -> Any:
        """Start a command that receives signals from a given file operation on."""
        setting = Setting(Fault(self.folder, at, signals=signals))
        return self.commands.start(*self.arguments(name), setting=setting)

    def do(self, name: str, at: int | None = None, error: int = 0, **circumstances: Any) -> Ended:
        """Run a command with a fault at a file operation, or count all operations (0)."""
        fault = None if at is None else Fault(self.folder, at, error)
        return self.commands.run(*self.arguments(name), setting=Setting(fault, **circumstances))

    def take(self, other: World, *names: str) -> World:
        """Copy the outputs of another world's commands."""
        for name in names:
            for made in {"prepare": ["data"], "train": ["run", "cache"], "export": ["prompts"]}[name]:
                shutil.copytree(other.folder / made, self.folder / made)
        recipe = self.run_folder / "recipe.yaml"
        if recipe.exists():
            recipe.write_text(recipe.read_text().replace(str(other.folder), str(self.folder)))
        return self

    def made_by(self, name: str) -> dict[str, Any]:
        """Return all output files by path, without recorded times, paths and later exports."""
        place = {"prepare": self.data, "train": self.run_folder, "export": self.prompts}[name]
        return {
            str(path.relative_to(place)): _content(path)
            for path in sorted(place.rglob("*"))
            if path.is_file() and path.name != NOTED and not path.name.startswith("events.out")
        } | self._vectors(name)

    def _vectors(self, name: str) -> dict[str, Any]:
        if name != "train":
            return {}
        return {f"cache/{path.name}": path.read_bytes() for path in self.folder.glob("cache/*/*.safetensors")}

    def differs_from(self, other: World, name: str) -> str:
        """Return the differences from another world's output; empty if there are none."""
        own, others = self.made_by(name), other.made_by(name)
        wrong = [place for place in own.keys() | others.keys() if own.get(place) != others.get(place)]
        return ", ".join(sorted(wrong) + self.leftovers())

    def remove(self) -> None:
        """Remove the folder to free its disk space."""
        shutil.rmtree(self.folder)

    def leftovers(self) -> list[str]:
        """Return temporary files that should be gone when all is done."""
        return [
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.name.startswith(".") or path.name == "checkpoints"
        ]


def _content(path: Path) -> Any:
    if path.name == "recipe.yaml":
        return [
            line for line in path.read_text().splitlines() if not line.strip().startswith(("path:", "cache:"))
        ]
    if path.name == "curve.json":
        curve = json.loads(path.read_text())
        return curve["losses"], [(one["step"], one["f1"], one["norms"]) for one in curve["scores"]]
    if path.name in ("manifest.json", "dataset.json"):
        content = json.loads(path.read_text())
        varying = ("started", "ended", "resumed", "command", "made", "commit", "source")
        return {name: value for name, value in content.items() if name not in varying}
    return path.read_bytes()
