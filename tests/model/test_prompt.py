"""Prompt assembly: embeddings, masks and labels, alone and in a batch."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from palate.config.recipe import StreamingSettings, UEMSettings
from palate.data.windows import draw_windows
from palate.encoders.base import UserPrompt
from palate.encoders.batch import window_tensors
from palate.model.prompt import IGNORED, inject, mask_labels
from tiny import asked, tiny_backbone, tiny_model

UEM_TINY = UEMSettings(num_layers=1, num_heads=2, d_kv=8, d_ff=32)
STREAMING_TINY = StreamingSettings(num_queries=6, d_model=16, num_layers=1, num_heads=2)
INSTRUCTION = "Which genres does this user like and dislike?"


@pytest.fixture
def uem(tiny_data):
    return tiny_model(tiny_data, UEM_TINY)


def windows_of_sizes(data, sizes, seed=0):
    """One window of each size, in one padded batch."""
    rng = np.random.default_rng(seed)
    whole = draw_windows(data.interactions, np.arange(len(sizes)), max(sizes), "random", rng)
    length = np.array(sizes)
    keep = np.arange(max(sizes)) < length[:, None]
    return type(whole)(whole.item_index * keep, whole.rating_index * keep, whole.timestamp * keep, length)


def greedy(model, prompt, most):
    """Greedy decoding by hand: the whole decoder anew for every token."""
    end, start = model.tokenizer.eos_token_id, model.backbone.config.decoder_start_token_id
    texts = []
    for row in range(len(prompt.embeddings)):
        ids = [start]
        for _ in range(most):
            logits = model.backbone(
                inputs_embeds=prompt.embeddings[row : row + 1],
                attention_mask=prompt.mask[row : row + 1],
                decoder_input_ids=torch.tensor([ids]),
            ).logits
            ids.append(int(logits[0, -1].argmax()))
            if ids[-1] == end:
                break
        texts.append(model.tokenizer.decode(ids, skip_special_tokens=True))
    return texts


def test_task_prompt_then_user_prompt_then_instruction():
    task, user, text = (torch.full((rows, 3), float(mark)) for mark, rows in enumerate((2, 4, 5)))
    mask = torch.ones(2, 4, dtype=torch.bool)
    prompt = inject(
        task, UserPrompt(user.expand(2, -1, -1), mask), text.expand(2, -1, -1), torch.ones(2, 5).long()
    )
    assert prompt.embeddings.shape == (2, 11, 3)
    assert prompt.embeddings[..., 0].tolist() == [[0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2]] * 2
    assert prompt.mask.tolist() == [[1] * 11] * 2
    assert prompt.mask.dtype == torch.long


def test_gaps_are_closed_in_order_and_what_is_padding_stands_at_the_end():
    task = torch.tensor([[10.0]])
    user = torch.tensor([[[20.0], [21.0], [22.0]], [[30.0], [99.0], [99.0]]])
    text = torch.tensor([[[40.0], [99.0]], [[41.0], [42.0]]])
    user_mask = torch.tensor([[True, True, True], [True, False, False]])
    prompt = inject(task, UserPrompt(user, user_mask), text, torch.tensor([[1, 0], [1, 1]]))
    assert prompt.embeddings[..., 0].tolist() == [[10, 20, 21, 22, 40], [10, 30, 41, 42, 0]]
    assert prompt.mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert prompt.lengths.tolist() == [5, 4]


def test_the_gradient_reaches_every_part_and_no_padding():
    parts = [torch.randn(size, requires_grad=True) for size in ((2, 4), (2, 3, 4), (2, 5, 4))]
    mask = torch.tensor([[True] * 3, [True, False, False]])
    prompt = inject(parts[0], UserPrompt(parts[1], mask), parts[2], torch.ones(2, 5).long())
    prompt.embeddings.sum().backward()
    task, user, text = (part.grad for part in parts)
    assert task.tolist() == torch.full((2, 4), 2.0).tolist()  # both users read it
    assert torch.equal(user, mask[..., None].expand(-1, -1, 4).float())
    assert torch.equal(text, torch.ones(2, 5, 4))


def test_without_prompts_it_is_the_bare_backbone():
    backbone = tiny_backbone()
    model, tokens = backbone.model.eval(), backbone.tokenizer([INSTRUCTION], return_tensors="pt")
    embedded = model.get_input_embeddings()(tokens["input_ids"])
    nobody = UserPrompt(torch.zeros(1, 0, 32), torch.zeros(1, 0, dtype=torch.bool))
    prompt = inject(torch.zeros(0, 32), nobody, embedded, tokens["attention_mask"])
    labels = backbone.tokenizer(["The user likes Drama"], return_tensors="pt")["input_ids"]
    bare = model(**tokens, labels=labels).logits
    joined = model(inputs_embeds=prompt.embeddings, attention_mask=prompt.mask, labels=labels).logits
    torch.testing.assert_close(joined, bare, atol=1e-6, rtol=0)
    answers = [
        model.generate(**given, max_new_tokens=10, do_sample=False)
        for given in (tokens, {"inputs_embeds": prompt.embeddings, "attention_mask": prompt.mask})
    ]
    assert answers[0].tolist() == answers[1].tolist()


@pytest.mark.parametrize("encoder", [UEM_TINY, STREAMING_TINY], ids=["uem", "streaming"])
def test_a_padded_batch_equals_its_rows_alone(tiny_data, encoder):
    model = tiny_model(tiny_data, encoder)
    windows = windows_of_sizes(tiny_data, (10, 1, 4, 7))
    together = model.prompt(windows)
    texts = ["The user likes Drama", "The user likes no genre and doesn't like Sci-Fi"] * 2
    target = model.tokenizer(texts, padding=True, return_tensors="pt")
    arguments = {"decoder_input_ids": target["input_ids"]}
    logits = model.backbone(
        inputs_embeds=together.embeddings, attention_mask=together.mask, **arguments
    ).logits
    for row in range(4):
        one = windows[row : row + 1]
        one = type(one)(
            *(column[:, : one.length[0]] for column in (one.item_index, one.rating_index, one.timestamp)),
            one.length,
        )
        alone = model.prompt(one)
        assert int(together.lengths[row]) == alone.embeddings.shape[1]
        expected = model.backbone(
            inputs_embeds=alone.embeddings,
            attention_mask=alone.mask,
            decoder_input_ids=target["input_ids"][row : row + 1],
        ).logits
        torch.testing.assert_close(logits[row : row + 1], expected, atol=1e-5, rtol=1e-5)
        assert model.answer(one) == model.answer(windows)[row : row + 1]


def test_instructions_of_other_lengths_work(uem, tiny_data):
    windows = windows_of_sizes(tiny_data, (3, 8))
    assert uem.answer(windows, "Why?") == greedy(uem, uem.prompt(windows, "Why?"), 12)
    assert uem.prompt(windows, "Why?").embeddings.shape[1] < uem.prompt(windows).embeddings.shape[1]


@pytest.mark.parametrize("encoder", [UEM_TINY, STREAMING_TINY], ids=["uem", "streaming"])
@pytest.mark.parametrize("seed", [0, 5])
def test_generate_is_greedy(tiny_data, encoder, seed):
    model = tiny_model(tiny_data, encoder, seed)
    windows = windows_of_sizes(tiny_data, (10, 2, 6))
    answers = model.answer(windows)
    assert answers == greedy(model, model.prompt(windows), 12)
    assert any(answers)  # an empty text would prove nothing


def test_answers_are_cut_where_the_settings_say(tiny_data):
    model = tiny_model(tiny_data, STREAMING_TINY, max_new_tokens=3)
    windows = windows_of_sizes(tiny_data, (5,))
    assert model.answer(windows) == greedy(model, model.prompt(windows), 3)


@pytest.mark.parametrize("encoder", [UEM_TINY, STREAMING_TINY], ids=["uem", "streaming"])
def test_half_precision_stays_close(tiny_data, encoder):
    model = tiny_model(tiny_data, encoder)
    windows = windows_of_sizes(tiny_data, (10, 4))
    exact = model.prompt(windows).embeddings
    model.to(torch.bfloat16)
    rough = model.prompt(windows).embeddings
    assert rough.dtype == torch.bfloat16
    assert float((rough.float() - exact).detach().norm() / exact.detach().norm()) < 0.02
    assert len(model.answer(windows)) == 2


def test_labels_leave_padding_out():
    ids, mask = torch.tensor([[5, 1, 0, 0], [6, 7, 0, 1]]), torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    labels = mask_labels(ids, mask)
    assert labels.tolist() == [[5, 1, IGNORED, IGNORED], [6, 7, 0, 1]]
    assert ids[0, 2] == 0  # the argument stays as it was


def test_the_loss_is_the_cross_entropy_of_the_target_tokens(uem, tiny_data):
    windows = windows_of_sizes(tiny_data, (10, 3))
    texts = ["The user likes Drama", "The user likes Comedy, Sci-Fi and doesn't like Action, Film-Noir"]
    target = uem.tokenizer(texts, padding=True, return_tensors="pt")
    instruction = uem.tokenizer([INSTRUCTION], return_tensors="pt")
    output = uem(
        **window_tensors(windows),
        rounds=[asked(instruction, target)],
    )
    prompt = uem.prompt(windows)
    losses = []
    for row, text in enumerate(texts):
        ids = uem.tokenizer([text], return_tensors="pt")["input_ids"]
        shifted = torch.cat([torch.full((1, 1), uem.backbone.config.decoder_start_token_id), ids[:, :-1]], 1)
        logits = uem.backbone(
            inputs_embeds=prompt.embeddings[row : row + 1],
            attention_mask=prompt.mask[row : row + 1],
            decoder_input_ids=shifted,
        ).logits
        losses.append(functional.cross_entropy(logits[0], ids[0], reduction="none"))
    assert len(losses[0]) != len(losses[1])  # so that one of the two was padded
    torch.testing.assert_close(output["loss"], torch.cat(losses).mean(), atol=1e-5, rtol=1e-5)
