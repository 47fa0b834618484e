"""Tasks that kill their worker, and folds that die halfway."""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DiesOnce:
    """A task that writes its number to a file; some kill their worker the first time."""

    folder: Path
    number: int
    deadly: bool

    @property
    def done(self):
        return (self.folder / f"{self.number}.done").is_file()

    def run(self):
        with (self.folder / f"{self.number}.begun").open("a") as file:
            file.write("x")
        if self.deadly and (self.folder / f"{self.number}.begun").read_text() == "x":
            os.kill(os.getpid(), signal.SIGKILL)
        (self.folder / f"{self.number}.done").touch()
        return self.number


class DiesAlways(DiesOnce):
    """A task that always kills its worker."""

    def run(self):
        os.kill(os.getpid(), signal.SIGKILL)


def main():
    """Fold, and die after a number of tasks."""
    from palate.fold.job import FoldOptions, fold_log

    engine, when, run, out, *logs = sys.argv[1:]

    def progress(done, total):
        if done >= int(when):
            os.kill(os.getpid(), signal.SIGKILL)

    fold_log(logs, run, out, FoldOptions(engine=engine, workers=2, blocks=6), progress=progress)


if __name__ == "__main__":
    main()
