"""Constrained answers: T5 and decoder-only, alone and in batches, streamed and after a prefix."""

import pytest
import torch

from grammars import accepts
from palate.config.recipe import CausalSettings, TaskSettings
from palate.model.generation import generation_settings
from palate.model.model import load_model
from palate.tasks import load_task
from palate.tasks.questions import Question
from tiny import pretrained_model, tiny_model
from tiny_causal import STREAMING, save_causal


@pytest.fixture(params=["t5", "llama", "gemma3"])
def free(request, tiny_data, tmp_path):
    """A model with random weights, which would write nonsense."""
    if request.param == "t5":
        return tiny_model(tiny_data, STREAMING, max_new_tokens=40)
    folder = save_causal(tmp_path / "backbone", request.param)
    settings = CausalSettings(name=str(folder), train="frozen")
    return pretrained_model(tiny_data, settings, STREAMING, max_new_tokens=40)


@pytest.fixture
def constrained(free):
    free.constrained = True
    return free


@pytest.fixture
def histories(tiny_data):
    return tiny_data.histories(tiny_data.user_ids[:5])


def test_every_answer_is_a_sentence_of_the_task(free, tiny_data, histories):
    task = load_task(TaskSettings(), tiny_data.info)

    def well_said(answers):
        return [text for text in answers if task.target_texts(task.parse([text])) == [text]]

    assert not well_said(free.generate(histories))
    free.constrained = True
    answers = free.generate(histories)
    assert well_said(answers) == answers


def test_it_is_the_likeliest_continuation_among_those_allowed(constrained, histories):
    """A loop of our own over the tokens that the grammar allows."""
    from palate.model.generation import score

    user = constrained.encode(histories[:1])
    prompt, grammar = constrained.complete(user), constrained.grammar
    state, tokens = grammar.start("preference"), []
    while state.threads:
        target = torch.tensor([[*tokens, 0]])
        logits, _ = score(constrained.backbone, constrained.frame, prompt, target, torch.ones_like(target))
        best = int(state.allowed[logits[0, len(tokens), state.allowed].argmax()])
        tokens.append(best)
        state = grammar.follow(state, best)
    text = constrained.tokenizer.decode(tokens, skip_special_tokens=True)
    assert constrained.generate_from(user) == [text]


def test_a_user_is_answered_alone_as_in_a_batch(constrained, histories):
    together = constrained.generate(histories)
    assert [constrained.generate([one])[0] for one in histories] == together


def test_a_streamed_answer_is_the_same(constrained, histories):
    class Kept:
        def __init__(self):
            self.tokens = []

        def put(self, value):
            self.tokens += value.flatten().tolist()

        def end(self):
            pass

    kept, user = Kept(), constrained.encode(histories[:1])
    text = constrained.generate_from(user, streamer=kept)[0]
    assert constrained.tokenizer.decode(kept.tokens, skip_special_tokens=True) == text


def test_an_answer_after_a_prefix_is_the_same(constrained, histories):
    if constrained.frame is None:
        pytest.skip("an encoder-decoder has no prefix")
    prefix = constrained.prefix(histories)
    assert constrained.generate_after(prefix) == constrained.generate(histories)
    liked = Question("Which genres does this user like?", kind="liked")
    for _ in range(2):  # a prefix can be used again
        assert constrained.generate_after(prefix, liked) == constrained.generate(histories, liked)


def test_questions_of_other_kinds_get_their_own_answers(constrained, histories):
    asked = [Question("Does this user like Drama?", kind="yes-no"), Question("Which?", kind="pair")]
    yes_no, pair = constrained.generate(histories[:2], asked)
    assert yes_no in ("yes", "no")
    assert pair in constrained.settings.categories
    unknown = constrained.generate(histories[:1], "What about it?")[0]
    assert accepts(constrained.grammar, _ids(constrained, unknown))


def _ids(model, text):
    end = model.tokenizer.eos_token_id if model.frame is None else model.frame.end
    return [*model.tokenizer(text, add_special_tokens=False)["input_ids"], end]


def test_constraining_is_saved_with_the_model_and_off_by_default(tiny_data, tmp_path, histories):
    assert not tiny_model(tiny_data, STREAMING).constrained
    model = tiny_model(tiny_data, STREAMING, grammar=True, max_new_tokens=40)
    model.save_pretrained(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.constrained
    assert again.generate(histories) == model.generate(histories)


def test_without_it_generation_is_as_it_was(free, histories):
    prompt = free.prompt(_windows(free, histories))
    settings = generation_settings(40)
    if free.frame is not None:
        settings |= {"eos_token_id": free.frame.end, "pad_token_id": free.frame.end}
    with torch.inference_mode():
        tokens = free.backbone.generate(
            inputs_embeds=prompt.embeddings, attention_mask=prompt.mask, **settings
        )
    expected = free.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    assert free.generate(histories) == expected


def _windows(model, histories):
    from palate.encoders.batch import windows_of

    return windows_of(histories, model.table, model.max_events)
