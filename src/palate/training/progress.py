"""Progress output of a training: a bar on a terminal, and a line per evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from palate.system.progress import new_bar

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from palate.training.clock import Clock


class TrainingReport(TrainerCallback):  # type: ignore[misc]
    """Callback that reports each evaluation and, on a terminal, updates a progress bar."""

    def __init__(self, clock: Clock, report: Callable[[str], None], watched: bool) -> None:
        self.clock, self.report = clock, report
        self.loss = float("nan")
        self._bar = new_bar() if watched else None
        self._task = self._bar.add_task("training", total=1.0, note="") if self._bar else None

    def __enter__(self) -> TrainingReport:
        """Start the progress bar."""
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the progress bar."""
        if self._bar:
            self._bar.stop()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Update the progress bar."""
        if self._bar and self._task is not None:
            done, alone = self.clock.progress(state.global_step), self.clock.settings.auxiliary_only_ratio
            part = f"user encoder alone, {done / alone:.0%} of its time, " if done < alone else ""
            self._bar.update(
                self._task, completed=done, note=f"{part}step {state.global_step:,}, loss {self.loss:.3f}"
            )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **_: Any,
    ) -> None:
        """Store the latest loss."""
        self.loss = logs.get("loss", self.loss)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **_: Any,
    ) -> None:
        """Report the evaluation."""
        tell = self._bar.console.print if self._bar else self.report
        tell(
            f"step {state.global_step:,} of {state.max_steps:,}: loss {self.loss:.3f}, {self._scored(metrics)}, "
            f"{metrics['eval_minutes']:.1f} minutes"
        )

    @staticmethod
    def _scored(metrics: dict[str, float]) -> str:
        if "eval_f1" not in metrics:
            return "the user encoder alone, not asked yet"
        unread = metrics["eval_unreadable"]
        return f"dev F1 {metrics['eval_f1']:.3f}" + (
            f" ({unread:.0%} of answers unreadable)" if unread else ""
        )
