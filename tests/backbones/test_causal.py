"""Decoder-only backbones give the bare model's numbers through prompt assembly: alone, in a batch, after a prefix."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from palate.backbones.base import checkpoint_activations
from palate.backbones.load import load_backbone
from palate.config.recipe import CausalSettings, TextSettings
from palate.data.windows import draw_windows
from palate.encoders.base import UserPrompt
from palate.encoders.batch import window_tensors, windows_of
from palate.errors import DataError, MismatchError
from palate.model.model import load_model
from palate.model.prompt import Edges, inject
from palate.schema import History
from palate.training.norms import prompt_norms
from tiny import asked, assert_only_its_backbone_is_taken, tiny_model
from tiny_causal import FAMILIES, STREAMING, causal_model, save_causal, tokenizer_with_a_beginning

INSTRUCTION = "Which genres does this user like and dislike?"
TARGETS = ["The user likes Drama", "The user likes Comedy, Sci-Fi and doesn't like Action"]
CHAT = (
    "<s>{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] }}</turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)


def histories(dataset, *sizes):
    return [
        History(
            f"u{size}",
            dataset.item_ids[:size],
            [float(1 + place % 5) for place in range(size)],
            [*range(size)],
        )
        for size in sizes
    ]


def loss_arguments(model, dataset, users=2):
    windows = draw_windows(dataset.interactions, np.arange(users), 6, "random", np.random.default_rng(0))
    target = model.tokenizer(TARGETS[:users], padding=True, return_tensors="pt")
    instruction = model.tokenizer([INSTRUCTION], return_tensors="pt")
    return windows, {
        **window_tensors(windows),
        "rounds": [asked(instruction, target)],
    }


def greedy(model, prompt, most=12):
    """Greedy decoding by hand: every row alone without its padding, the whole text anew for every token."""
    texts = []
    for row in range(len(prompt.mask)):
        alone = prompt.embeddings[row][prompt.mask[row].bool()][None]
        ids = []
        for _ in range(most):
            logits = model.backbone(inputs_embeds=alone, use_cache=False).logits
            ids.append(int(logits[0, -1].argmax()))
            if ids[-1] == model.frame.end:
                break
            alone = torch.cat([alone, model.embedded(torch.tensor([[ids[-1]]]))], dim=1)
        texts.append(model.tokenizer.decode(ids, skip_special_tokens=True))
    return texts


@pytest.fixture(params=FAMILIES)
def folder(tmp_path, request):
    return save_causal(tmp_path / "backbone", request.param)


@pytest.fixture
def llama(tmp_path):
    return save_causal(tmp_path / "backbone")


def test_without_prompts_it_is_the_bare_backbone(tiny_data, folder):
    model = causal_model(tiny_data, folder, task_prompt=0)
    bare = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = tokenizer_with_a_beginning()([INSTRUCTION + "\n"], return_tensors="pt")["input_ids"]
    nobody = UserPrompt(torch.zeros(1, 0, 32), torch.zeros(1, 0, dtype=torch.bool))
    tokens = model.tokenizer([INSTRUCTION], return_tensors="pt")
    edges = Edges(
        model.embedded(torch.tensor(model.frame.opening)), model.embedded(torch.tensor(model.frame.closing))
    )
    prompt = inject(
        torch.zeros(0, 32), nobody, model.embedded(tokens["input_ids"]), tokens["attention_mask"], edges
    )
    joined = model.backbone(inputs_embeds=prompt.embeddings, attention_mask=prompt.mask).logits
    torch.testing.assert_close(joined, bare(ids).logits, atol=1e-5, rtol=1e-5)
    written = bare.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    answer = model.generate_from(torch.zeros(1, 0, 32), INSTRUCTION)
    assert answer == [model.tokenizer.decode(written, skip_special_tokens=True)]
    assert answer[0]


def test_a_padded_batch_is_greedy_and_equals_its_rows_alone_with_a_prefix_and_without(tiny_data, folder):
    model = causal_model(tiny_data, folder, TextSettings())
    people = histories(tiny_data, 5, 1, 0, 8)
    answers = model.generate(people)
    assert len(set(answers)) > 1
    assert [model.generate([one])[0] for one in people] == answers
    assert greedy(model, model.prompt(windows_of(people, model.table, 10))) == answers
    prefix = model.prefix(people)
    for question in (None, "Why?", None):  # the same prefix again and again
        assert model.generate_after(prefix, question) == model.generate(people, question)


def test_the_loss_is_the_cross_entropy_of_the_target_and_its_end(tiny_data, folder):
    model = causal_model(tiny_data, folder)
    windows, arguments = loss_arguments(model, tiny_data)
    prompt, losses = model.prompt(windows), []
    for row, text in enumerate(TARGETS):
        ids = torch.tensor(model.tokenizer(text)["input_ids"])
        alone = torch.cat([prompt.embeddings[row][prompt.mask[row].bool()], model.embedded(ids)])[None]
        logits = model.backbone(inputs_embeds=alone, use_cache=False).logits[0, -len(ids) - 1 :]
        wanted = torch.cat([ids, torch.tensor([model.frame.end])])
        losses.append(functional.cross_entropy(logits, wanted, reduction="none"))
    assert len(losses[0]) != len(losses[1])
    torch.testing.assert_close(model(**arguments)["loss"], torch.cat(losses).mean(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("user_first", [False, True])
@pytest.mark.parametrize("encoder", [STREAMING, TextSettings()])
def test_rounds_read_the_prefix_once_and_score_and_teach_as_each_round_alone(
    tiny_data, folder, encoder, user_first
):
    model = causal_model(tiny_data, folder, encoder, train="frozen", user_first=user_first)
    _, arguments = loss_arguments(model, tiny_data)
    instructions = ["Why?", "Which of all genres would this user like to see?"]
    if hasattr(
        model.backbone.config, "sliding_window"
    ):  # which counts the padding between prefix and instruction
        instructions[1] = instructions[0]
    targets = ["yes", "The user likes Drama, Comedy"]
    other = asked(
        *(model.tokenizer(texts, padding=True, return_tensors="pt") for texts in (instructions, targets))
    )
    rounds = [*arguments.pop("rounds"), other, other]

    def taught(*some):
        model.zero_grad()
        losses = [model(**arguments, rounds=list(each))["loss"] for each in some]
        torch.stack(losses).mean().backward()
        learning = [weight for weight in model.parameters() if weight.requires_grad]
        return torch.stack(losses).mean().detach(), [
            weight.grad for weight in learning if weight.grad is not None
        ]

    reads = []
    model.backbone.register_forward_hook(lambda *_: reads.append(1))
    together = taught(rounds)
    assert len(reads) == 4
    alone = taught(*([one] for one in rounds))
    assert len(together[1]) > (0 if model.reads_text else 5)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-3)
    model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
    reads.clear()
    torch.testing.assert_close(taught(rounds), alone, atol=1e-5, rtol=1e-3)
    assert len(reads) == 3  # a cache and checkpoints do not go together


def test_the_task_prompt_may_stand_after_the_user(tiny_data, folder):
    model = causal_model(tiny_data, folder, user_first=True)
    windows, _ = loss_arguments(model, tiny_data)
    prompt, user = model.prompt(windows), model.user_prompt(windows)
    start = len(model.frame.opening)
    people, task = user.embeddings.shape[1], len(model.task_prompt)
    torch.testing.assert_close(prompt.embeddings[:, start : start + people], user.embeddings)
    after = prompt.embeddings[:, start + people : start + people + task]
    torch.testing.assert_close(after, model.task_prompt.expand_as(after))
    users = histories(tiny_data, 5, 1)
    prefix = model.prefix(users)
    assert prefix.prompt.mask.shape[1] == start + people
    for question in (None, "Why?"):
        assert model.generate_after(prefix, question) == model.generate(users, question)


def test_a_chat_template_stands_around_everything(tiny_data, tmp_path):
    folder = save_causal(tmp_path / "backbone", template=CHAT)
    model = causal_model(tiny_data, folder, task_prompt=0, chat=True)
    tokenizer = tokenizer_with_a_beginning()
    text = f"<s><turn>user\n{INSTRUCTION}</turn>\n<turn>assistant\n"
    ids = tokenizer([text], add_special_tokens=False, return_tensors="pt")["input_ids"]
    bare = AutoModelForCausalLM.from_pretrained(folder).eval()
    end = tokenizer.convert_tokens_to_ids("</turn>")
    assert model.frame.end == end
    written = bare.generate(
        ids, max_new_tokens=12, do_sample=False, eos_token_id=[end, tokenizer.eos_token_id]
    )
    wanted = model.tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
    assert model.generate_from(torch.zeros(1, 0, 32), INSTRUCTION) == [wanted]


def test_a_chat_without_a_template_is_refused(tiny_data, llama):
    with pytest.raises(MismatchError, match=r"no chat template; set model\.backbone\.chat=false"):
        causal_model(tiny_data, llama, chat=True)


@pytest.mark.parametrize("train", ["frozen", "lora"])
def test_only_what_was_trained_is_saved_and_only_its_backbone_is_taken(tiny_data, tmp_path, llama, train):
    model = causal_model(tiny_data, llama, train=train)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    _, arguments = loss_arguments(model, tiny_data)
    optimizer = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=0.1)
    for _ in range(2):  # LoRA's first factor learns once the second is not zero
        optimizer.zero_grad()
        model.train()(**arguments)["loss"].backward()
        optimizer.step()
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert {"task_prompt", "user_encoder.name"} <= moved
    assert any(name.startswith("backbone.") for name in moved) is (train == "lora")
    assert all("lora_" in name for name in moved if name.startswith("backbone."))
    people = histories(tiny_data, 5, 2)
    other = save_causal(tmp_path / "other", seed=7)
    refusal = "cannot be loaded as a decoder-only model"
    saved = assert_only_its_backbone_is_taken(model.eval(), people, llama, other, refusal)
    whole = sum(weight.numel() * 4 for weight in model.backbone.parameters() if not weight.requires_grad)
    assert (saved / "model.safetensors").stat().st_size < whole + 4 * sum(
        weight.numel() for name, weight in model.named_parameters() if not name.startswith("backbone.")
    )


def test_loras_first_answer_is_the_backbones_own(tiny_data, llama):
    people = histories(tiny_data, 4)
    assert causal_model(tiny_data, llama, train="lora").generate(people) == causal_model(
        tiny_data, llama, train="frozen"
    ).generate(people)


def test_a_fully_trained_one_is_saved_whole(tiny_data, tmp_path, llama):
    model, people = causal_model(tiny_data, llama), histories(tiny_data, 5, 2)
    answers = model.generate(people)
    model.save_pretrained(tmp_path / "saved")
    for path in llama.iterdir():
        path.unlink()
    again = load_model(tmp_path / "saved")
    assert again.generate(people) == answers
    assert again.frame == model.frame
    with pytest.raises(MismatchError, match="has its own backbone"):
        load_model(tmp_path / "saved", backbone=str(llama))
    (tmp_path / "saved" / "backbone" / "frame.json").write_text(json.dumps({"opening": ["x"]}))
    with pytest.raises(DataError, match=r"frame\.json.*copy the model again"):
        load_model(tmp_path / "saved")


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_prompts_stay_as_far_from_the_mean_as_tokens(tiny_data, tmp_path, family):
    folder = save_causal(tmp_path / "backbone", family)
    model = causal_model(tiny_data, folder, train="frozen", like_tokens=True)
    windows, arguments = loss_arguments(model, tiny_data)
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=0.05)
    for _ in range(3):
        norms = prompt_norms(model, windows)
        for part in ("task_prompt", "user_prompt"):
            assert norms[part].from_mean == pytest.approx(float(model.token_like.distance), rel=1e-3)
            assert norms[part].length == pytest.approx(norms["tokens"].length, rel=0.25)
        optimizer.zero_grad()
        model.train()(**arguments)["loss"].backward()
        optimizer.step()
    free = causal_model(tiny_data, folder, train="frozen")
    assert prompt_norms(free, windows)["user_prompt"] != norms["user_prompt"]


def test_half_precision_stays_close_and_checkpointing_changes_nothing(tiny_data, folder):
    model = causal_model(tiny_data, folder, train="frozen", like_tokens=True).train()
    _, arguments = loss_arguments(model, tiny_data)

    def gradient():
        model.zero_grad()
        loss = model(**arguments)["loss"]
        loss.backward()
        return loss.detach().float(), model.task_prompt.grad.clone()

    exact = gradient()
    with torch.autocast("cpu", torch.bfloat16):
        rough = gradient()
    assert all(part.isfinite().all() for part in rough)
    torch.testing.assert_close(rough[0], exact[0], atol=0, rtol=0.1)
    checkpoint_activations(model.backbone)
    torch.testing.assert_close(gradient(), exact)


def test_an_encoder_decoder_has_no_prefix_and_is_no_decoder_only_model(tiny_data, tmp_path):
    model = tiny_model(tiny_data, STREAMING)
    with pytest.raises(MismatchError, match=r"has no prefix; use generate\(\)"):
        model.prefix(histories(tiny_data, 3))
    model.backbone.save_pretrained(tmp_path / "t5")
    model.tokenizer.save_pretrained(tmp_path / "t5")
    with pytest.raises(MismatchError, match="cannot be loaded as a decoder-only model") as caught:
        load_backbone(CausalSettings(name=str(tmp_path / "t5")))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["packaged:gpt-5", "absent.gguf"])
def test_what_cannot_be_had_is_told_in_one_line(name):
    with pytest.raises(MismatchError, match=r"packaged:gemma3-270m") as caught:
        load_backbone(CausalSettings(name=name))
    assert "\n" not in str(caught.value)


def test_a_states_prompt_is_answered_as_its_history(tiny_data, llama):
    model = causal_model(tiny_data, llama, train="frozen", like_tokens=True)
    people, encoder = histories(tiny_data, 5, 9), model.user_encoder
    answers = model.generate(people)
    state = encoder.add(encoder.init_state(2), model.events(people))
    assert model.generate_from(encoder.prompt(state)) == answers
    assert model.generate_from(model.encode(people).embeddings) == answers
