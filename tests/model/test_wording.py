"""Names that a backbone cannot write, titles that it cannot read, and texts that are too long."""

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from palate.backbones.base import Backbone, Frame
from palate.backbones.t5 import load_t5, random_t5, rebuild_t5
from palate.config.recipe import PretrainedT5Settings, RandomT5Settings, TaskSettings
from palate.errors import MismatchError, RecipeError
from palate.model.wording import (
    check_room,
    longest_target,
    lost_names,
    max_new_tokens,
    teach_names,
    tell_changed,
    tell_unread,
)
from palate.schema import Preferences
from palate.tasks import CategoryPreference

NAMES = ("Jazz", "Música", "Rock", "Rock {live}", "{live}", "爵士")
LACKING = ["Música", "Rock {live}", "{live}", "爵士"]
ENGLISH = [
    "The user likes Jazz, Rock and doesn't like Rock, Jazz",
    "Which genres does this user like and dislike?",
    "no genre any genre",
    "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ , . ' ? - & 0123456789",
]


def task_of(*names, field="genre", max_labels=3):
    return CategoryPreference(tuple(sorted(names)), field, TaskSettings(max_labels=max_labels))


def t5_tokenizer():
    """A unigram vocabulary of plain English, as T5's own: NFKC, no accents, no braces, no other scripts."""
    made = Tokenizer(models.Unigram())
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), spaces])
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(ENGLISH * 20, trainer)
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.fixture(params=[True, False], ids=["tied", "an output layer of its own"])
def t5(tmp_path, request):
    tokenizer = t5_tokenizer()
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        tie_word_embeddings=request.param,
    )
    model = T5ForConditionalGeneration(config)
    if not request.param:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight))
    model.save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    return load_t5(PretrainedT5Settings(name=str(tmp_path / "t5")))


def through(tokenizer, texts):
    return tokenizer.batch_decode(tokenizer(texts)["input_ids"], skip_special_tokens=True)


def test_names_that_the_vocabulary_lacks_become_tokens_that_answers_are_read_from(t5, tmp_path):
    task, lines = task_of(*NAMES), []
    tied = t5.model.lm_head.weight is t5.model.shared.weight
    teach_names(t5, task, trained=True, called="a T5", tell=lines.append)
    assert len(lines) == 1
    assert (
        "lacks 4 of 6 names ('Música' is decoded as 'Msica', 'Rock {live}' is decoded as 'Rock live'"
        in lines[0]
    )
    labels = np.array([[1, 3, 5], [4, 2, 0], [5, 1, -1]])
    wanted = Preferences(labels, labels[:, ::-1].copy()[[1, 0, 2]])
    wanted = Preferences(labels[:1], labels[1:2])
    read = task.parse(through(t5.tokenizer, task.target_texts(wanted)))
    assert (read.liked.tolist(), read.disliked.tolist()) == (wanted.liked.tolist(), wanted.disliked.tolist())
    ids = t5.tokenizer("The user likes 爵士")["input_ids"]
    loss = t5.model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss
    assert loss.isfinite()
    assert (t5.model.lm_head.weight is t5.model.shared.weight) is tied

    t5.save(tmp_path / "saved")
    again = rebuild_t5(tmp_path / "saved")
    again.model.load_state_dict(t5.model.state_dict())
    assert again.tokenizer("The user likes 爵士")["input_ids"] == ids
    teach_names(again, task, trained=False, called="again", tell=lines.append)
    assert len(lines) == 1


def test_a_backbone_that_is_not_trained_whole_is_refused_with_the_names_that_it_cannot_write(t5):
    with pytest.raises(MismatchError) as caught:
        teach_names(t5, task_of(*NAMES), trained=False, called="a T5", tell=print)
    said = str(caught.value)
    assert "the backbone 'a T5' cannot write 4 of 6 names ('Música' is decoded as 'Msica'" in said
    assert "set model.backbone.train=full" in said
    assert "\n" not in said


def test_the_sentence_around_the_names_has_to_survive_too():
    """Without its apostrophe "doesn't like" is no denial, and what is disliked would be read as liked."""
    backbone = random_t5(RandomT5Settings(d_model=16, num_heads=2), ["the user likes jazz"])
    backbone.tokenizer.backend_tokenizer.normalizer = normalizers.Replace("n't", "")
    assert [one.text for one in lost_names(backbone.tokenizer, task_of("Jazz", "Rock"))] == ["Jazz", "Rock"]


def test_every_name_survives_a_vocabulary_of_bytes():
    tokenizer = random_t5(RandomT5Settings(d_model=16, num_heads=2), ["the user"]).tokenizer
    assert lost_names(tokenizer, task_of(*NAMES, "Ⅻ", "ﬁlm", "e\u0301", "😀 a")) == []


def test_a_name_that_is_a_token_with_a_meaning_is_refused_even_where_all_is_trained():
    backbone = random_t5(RandomT5Settings(d_model=16, num_heads=2), ["the user"])
    with pytest.raises(
        MismatchError, match=r"'</s>' is decoded as ''.*contain its special tokens; rename them"
    ):
        teach_names(backbone, task_of("Jazz", "</s>"), trained=True, called="random-t5", tell=print)


def test_a_lowercasing_vocabulary_loses_nothing_that_counts(t5):
    t5.tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    assert lost_names(t5.tokenizer, task_of("Jazz", "Rock")) == []


def test_the_longest_target_holds_the_longest_names_and_no_target_is_longer():
    names = ["a" * 3, "b" * 9, "c" * 1, "d" * 7, "e" * 5]
    task = task_of(*names, max_labels=2)
    backbone = random_t5(RandomT5Settings(d_model=16, num_heads=2, vocab_size=64), ["x"])  # a token a byte
    length, text = longest_target(backbone, task, 2)
    assert text in (
        "The user likes bbbbbbbbb, ddddddd and doesn't like eeeee, aaa",
        "The user likes eeeee, aaa and doesn't like bbbbbbbbb, ddddddd",
    )
    assert length == len(text) + 1 + 4  # its end, and a token a name to spare


def test_answers_may_be_as_long_as_they_need_and_not_less():
    backbone = random_t5(RandomT5Settings(d_model=16, num_heads=2, vocab_size=64), ["x"])
    long, short = task_of("a" * 30, "b" * 30), task_of("a", "b")
    text = "The user likes " + "a" * 30 + " and doesn't like " + "b" * 30
    assert max_new_tokens(backbone, long, 1, None) == len(text) + 1 + 2
    assert max_new_tokens(backbone, short, 1, None) == 48
    assert max_new_tokens(backbone, long, 1, 100) == 100
    with pytest.raises(RecipeError, match=r"max_new_tokens is 48, expected at least 96, .*leave it out"):
        max_new_tokens(backbone, long, 1, 48)


def test_prompts_that_are_longer_than_a_backbone_reads_are_refused_with_the_numbers():
    tokenizer = t5_tokenizer()
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=1, n_positions=64)
    )
    backbone = Backbone(model, tokenizer, Frame((), (), 1))
    check_room(backbone, {"the history": 40, "the answer": 24})
    with pytest.raises(
        RecipeError, match=r"reads at most 64 tokens, and there may be 65: 40 of the history, 25 of"
    ):
        check_room(backbone, {"the history": 40, "the answer": 25})
    check_room(
        random_t5(RandomT5Settings(d_model=16, num_heads=2), ["x"]), {"the history": 40_000}
    )  # T5 counts none


def test_titles_that_are_read_as_nothing_or_as_another_are_told():
    lines = []
    titles = ["Heat", "Amélie", "Amlie", "電影", "Heat", "Élan"]
    tell_unread(t5_tokenizer(), titles, "items", lines.append)
    assert lines == [
        "the backbone cannot read or distinguish 3 of 5 items ('Amélie' is decoded as 'Amlie', "
        "'Amlie' is decoded as 'Amlie', '電影' is decoded as ''), as its vocabulary lacks their characters"
    ]


def test_an_instruction_that_loses_characters_is_told():
    lines = []
    tell_changed(t5_tokenizer(), ["Which genres?", "Which géneros?"], "the instruction", lines.append)
    assert len(lines) == 1
    assert "'Which géneros?' is decoded as 'Which gneros?'" in lines[0]
