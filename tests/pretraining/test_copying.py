"""The packaged backbone's initial weights count and copy names before any training."""

import pytest
import torch

from palate.backbones.spelling import continued, spelled
from palate.errors import MismatchError
from palate.model.asking import Asked
from palate.model.prompt import inject
from palate.pretraining.copying import counted_words
from palate.pretraining.language import Language, LanguagePretraining, language_backbone
from palate.tasks.questions import about_categories
from palate.tasks.verbalizer import nothing_named

WIDTH = 5
NAMES = ["tag 1", "tag 12", "tag 12 12", "la la la", "la", "Música", "日本の映画", "The likes of us"]


@pytest.fixture(scope="module")
def language():
    torch.manual_seed(0)
    settings = LanguagePretraining(d_model=128, d_ff=32, num_layers=1, catalogues=40, name_tokens=(40,))
    language = Language(language_backbone(settings), WIDTH, settings).eval()
    language.backbone.set_attn_implementation("eager")
    return language


@torch.no_grad()
def looked_at(language, user, question, answer, head):
    """The vectors of the prompt that a head of the first cross-attention looks at, before each token of an answer."""
    asked = Asked.of([question], language.tokenizer)
    embed = language.backbone.get_input_embeddings()
    vectors, mask = asked.embedded(embed, 1, user.entities, language.names.name_places)
    prompt = inject(language.task_prompt, user, vectors, mask)
    ids = torch.tensor([language.tokenizer(answer, add_special_tokens=False)["input_ids"]])
    start = torch.full((1, 1), language.backbone.config.decoder_start_token_id)
    read = language.backbone(
        inputs_embeds=prompt.embeddings,
        attention_mask=prompt.mask,
        decoder_input_ids=torch.cat([start, ids], dim=1),
        output_attentions=True,
    )
    found = prompt.embeddings[0, read.cross_attentions[0][0, head].argmax(dim=-1)]
    own = slice(30, None)  # channels that say which token it is
    tokens = (found[:, own] @ embed.weight[:, own].T).argmax(dim=-1)
    return ids[0].tolist(), tokens[:-1].tolist()


def written(language, named, logits=None):
    language.names.bind(spelled(language.tokenizer, NAMES), spelled(language.tokenizer, nothing_named("tag")))
    logits = torch.zeros(1, len(NAMES), 2) if logits is None else logits
    return language.names(torch.tensor([named]), torch.zeros(1, len(NAMES), WIDTH), logits)


@pytest.mark.parametrize(
    ("named", "answer", "said"),
    [
        (
            [[0, 1, 2], [3, 4, 5]],
            "The user likes tag 1, tag 12, tag 12 12 and doesn't like la la la, la, Música",
            3,
        ),
        (
            [[3, 2, 1], [6, 0, -1]],
            "The user likes la la la, tag 12 12, tag 12 and doesn't like 日本の映画, tag 1",
            3,
        ),
        ([[-1, -1, -1], [2, 1, -1]], "The user likes no tag and doesn't like tag 12 12, tag 12", 3),
        ([[0, 1, 2], [6, -1, -1]], "The user doesn't like 日本の映画", 4),
        ([[7, 1, -1], [0, -1, -1]], "The user likes The likes of us", 3),
    ],
)
def test_the_token_to_say_is_found_by_its_place(language, named, answer, said):
    user = written(language, named)
    wanted, found = looked_at(language, user, "Which tags?", answer, head=0)
    between = continued(language.tokenizer, [" and doesn't like"])[0]
    places = [at for at in range(said, len(wanted)) if wanted[at] not in between]
    if "likes of" in answer:  # a name with the word that is counted from loses the count behind it
        places = places[:2]
    assert [wanted[at] for at in places] == [found[at] for at in places]


@pytest.mark.parametrize("better", [1, 2])
def test_of_two_names_in_a_question_the_one_that_is_liked_more_is_found(language, better):
    logits = torch.zeros(1, len(NAMES), 2)
    logits[0, better, 0] = 4.0
    user = written(language, [[-1] * 3] * 2, logits)
    question = about_categories("Which does this user prefer, {category} or {other}?", [1, 2], NAMES)
    wanted, found = looked_at(language, user, question, NAMES[better], head=7)
    assert wanted == found


def test_what_counts_is_not_trained(language):
    fixed = {name for name, weight in language.backbone.named_parameters() if not weight.requires_grad}
    assert fixed == {
        "shared.weight",
        *(name for name in fixed if name.startswith("decoder.block.0.layer.0.")),
    }
    assert "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight" in fixed


def test_a_tokenizer_that_splits_the_words_of_an_answer_is_refused(language):
    settings = LanguagePretraining(d_model=32, catalogues=1, vocab_size=320)
    backbone = language_backbone(settings)
    with pytest.raises(MismatchError, match="splits the words of an answer"):
        counted_words(backbone.tokenizer)
