"""Runs a model on a simulated GPU, in a process: python on_pretended_gpu.py FOLDER; see pretended_gpu."""

import sys
from pathlib import Path

import numpy as np

from pretended_gpu import pretended_gpu

import torch  # isort: skip

from palate.config.recipe import (
    ResamplerSettings,
    StreamingSettings,
    TaskSettings,
    TextSettings,
    UEMSettings,
)
from palate.data.windows import draw_windows, make_examples
from palate.evaluation.attribution import attribute
from palate.evaluation.compare import Options, prepare_comparison
from palate.evaluation.evaluate import Setting
from palate.evaluation.predictors.model_controls import controls
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.evaluation.questions import score_questions
from palate.system.device import find_device
from palate.tasks import load_task
from palate.training.norms import prompt_norms
from tiny import prepare_tiny, tiny_model
from tiny_causal import causal_model, save_causal

STREAMING = StreamingSettings(num_queries=6, d_model=16, num_layers=1, num_heads=2)


def models(data, folder):
    yield "streaming", lambda: tiny_model(data, STREAMING, like_tokens=True)
    yield "uem", lambda: tiny_model(data, UEMSettings(d_model=16, num_layers=1, num_heads=2, d_ff=32))
    yield (
        "resampler",
        lambda: tiny_model(data, ResamplerSettings(num_queries=4, d_model=16, num_layers=1, num_heads=2)),
    )
    llama = save_causal(folder / "llama")
    yield "frozen decoder", lambda: causal_model(data, llama, train="frozen", like_tokens=True)
    yield "text", lambda: causal_model(data, llama, TextSettings(), train="frozen")


def asked(model, data, gpu):
    """Compute every kind of output of a model, as numbers and texts."""
    task, users = load_task(TaskSettings(), data.info), data.users("test")[:4]
    histories = data.histories([data.user_ids[user] for user in users])
    windows = draw_windows(data.interactions, users, 8, "random", np.random.default_rng(0))
    setting = Setting(split="test", window=8, kind="random", seed=0)
    user = model.encode(histories)
    stored = [one.cpu() for one in user.split()]  # as a server or an export keeps them
    yield user.embeddings.cpu()
    yield model.generate(histories)
    yield model.generate_from(stored)
    yield model.log_likelihood(stored, ["The user likes Drama"] * len(stored)).cpu()
    yield model.choose(windows, [("Action", "Drama")] * len(windows)).cpu()
    yield model.with_table(model.table).generate(histories)
    yield torch.tensor(attribute(model, histories[0].latest(4)).influence)
    predictor = PersonalizedPredictor(model, "model", 4)
    it = prepare_comparison([model], Options(data=data, window=8, bare=True))
    if gpu is not None:
        assert it.device == str(gpu), it.device
    examples = make_examples(data, task, "test", 8, "random", 0)
    for one in [predictor, *controls(predictor, data, setting)]:
        yield one.predict(examples.user_index, examples.windows)
    scored = score_questions(model, data, task, setting, ["preference", "yes-no", "pair", "rating"], 4)
    yield torch.tensor([score for row in scored.rows for score in row.scores.values()])
    if not model.reads_text:
        yield torch.tensor([one.length for one in prompt_norms(model, windows).values()])
    if isinstance(model.settings.user_encoder, StreamingSettings):
        state = model.new_state()
        state.add(histories[0])
        state.remove(histories[0].take([0]), histories[0].take(range(1, len(histories[0]))))
        yield model.load_state(state.to_bytes()).prompt().cpu()
        yield state.category_probabilities().cpu()
    if model.frame is not None:
        yield model.generate_after(model.prefix(histories))


def main(folder):
    data = prepare_tiny(folder)
    for name, make in models(data, folder):
        expected = list(asked(make(), data, None))
        with pretended_gpu() as gpu:
            found = list(asked(make().to(find_device(gpu)), data, gpu))
        for number, (one, other) in enumerate(zip(expected, found, strict=True)):
            if isinstance(one, torch.Tensor):
                torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-3, equal_nan=True)
            else:
                assert one == other, (name, number)
        sys.stdout.write(f"{name}: {len(found)} alike\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
