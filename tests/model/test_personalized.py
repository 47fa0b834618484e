"""The personalized model: save and load, damaged files, unusual histories, other catalogues."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import palate
from palate.backbones.t5 import load_t5
from palate.config.recipe import ItemSettings, PretrainedT5Settings, StreamingSettings, UEMSettings
from palate.encoders.batch import windows_of
from palate.errors import DataError, MismatchError, OutputError
from palate.evaluation.predictors.personalized import PersonalizedPredictor
from palate.items.encoder import ItemEncoder
from palate.items.table import ItemTable, build_item_table
from palate.model.model import PersonalizedModel, load_model
from palate.schema import History, Item
from tiny import ENCODER, made_up_table, tiny_model

UEM_TINY = UEMSettings(num_layers=1, num_heads=2, d_kv=8, d_ff=32)
STREAMING_TINY = StreamingSettings(num_queries=6, d_model=16, num_layers=1, num_heads=2)


@pytest.fixture(params=[UEM_TINY, STREAMING_TINY], ids=["uem", "streaming"])
def model(request, tiny_data):
    return tiny_model(tiny_data, request.param)


@pytest.fixture
def streaming(tiny_data):
    return tiny_model(tiny_data, STREAMING_TINY)


@pytest.fixture
def histories(tiny_data):
    return tiny_data.histories(tiny_data.user_ids[:4])


@pytest.fixture
def saved(streaming, tmp_path):
    streaming.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def refused(folder, error=DataError):
    with pytest.raises(error) as caught:
        PersonalizedModel.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_saved_model_answers_as_it_did(model, histories, tmp_path):
    model.save_pretrained(tmp_path / "model")
    loaded = PersonalizedModel.from_pretrained(tmp_path / "model")
    assert torch.equal(loaded.encode(histories).embeddings, model.encode(histories).embeddings)
    assert loaded.generate(histories) == model.generate(histories)
    assert loaded.generate(histories, "Why?") == model.generate(histories, "Why?")
    assert loaded.settings == model.settings
    assert not loaded.training


def test_an_output_layer_of_its_own_survives_saving(tiny_data, histories, tmp_path):
    """T5 v1.1 and Flan-T5 have one, and transformers' config class says of every T5 that it has not."""
    model = tiny_model(tiny_data, STREAMING_TINY)
    t5 = model.backbone
    t5.lm_head.weight = torch.nn.Parameter(torch.randn_like(t5.lm_head.weight))
    for name in ("tie_word_embeddings", "scale_decoder_outputs"):
        setattr(t5.config, name, False)
    t5.save_pretrained(tmp_path / "t5")
    model.tokenizer.save_pretrained(tmp_path / "t5")
    model.backbone = load_t5(PretrainedT5Settings(name=str(tmp_path / "t5"))).model.eval()

    model.save_pretrained(tmp_path / "model")
    loaded = PersonalizedModel.from_pretrained(tmp_path / "model")
    for name in ("lm_head", "shared"):
        assert torch.equal(getattr(loaded.backbone, name).weight, getattr(t5, name).weight)
    assert loaded.backbone.config.scale_decoder_outputs is False
    windows = windows_of(histories, model.table, 10)
    prompt, again = model.prompt(windows), loaded.prompt(windows)
    labels = torch.tensor([[7, 30, 1]] * 4)
    logits, others = (
        one.backbone(inputs_embeds=z.embeddings, attention_mask=z.mask, labels=labels).logits
        for one, z in ((model, prompt), (loaded, again))
    )
    assert torch.equal(logits, others)
    assert loaded.generate(histories) == model.generate(histories)
    # and it stays its own when it is saved once more
    loaded.save_pretrained(tmp_path / "again")
    assert PersonalizedModel.from_pretrained(tmp_path / "again").generate(histories) == model.generate(
        histories
    )


def test_a_run_folder_or_the_models_own_can_be_named(streaming, histories, tmp_path):
    streaming.save_pretrained(tmp_path / "run" / "model")
    answers = streaming.generate(histories)
    assert load_model(tmp_path / "run").generate(histories) == answers
    assert palate.load_model(tmp_path / "run" / "model").generate(histories) == answers


def test_nothing_that_is_saved_can_run_code(saved):
    kinds = {path.suffix for path in saved.rglob("*") if path.is_file()}
    assert kinds <= {".json", ".safetensors", ".md", ".jinja"}


def test_a_saved_model_is_not_written_over(streaming, saved):
    with pytest.raises(OutputError, match="model is not empty"):
        streaming.save_pretrained(saved)


def test_the_card_says_what_the_model_is(saved, streaming):
    card = (saved / "README.md").read_text()
    assert streaming.settings.instruction in card
    assert "made-up" in card
    assert "| user encoder | streaming" in card


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_told(saved, share):
    path = saved / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    message = refused(saved)
    assert message.startswith(str(path))
    assert "copy the model again" in message


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "backbone/config.json", "items/items.json"]
)
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    assert name.split("/")[0] in refused(saved)


@pytest.mark.parametrize(
    "name", ["config.json", "backbone/config.json", "backbone/tokenizer.json", "items/items.json"]
)
def test_a_damaged_file_is_told(saved, name):
    (saved / name).write_text('{"half": ')
    assert name.split("/")[0] in refused(saved)


def test_a_missing_tokenizer_is_told(saved):
    (saved / "backbone" / "tokenizer.json").unlink()
    assert "backbone" in refused(saved)


def test_a_folder_without_a_model_is_told(tmp_path):
    assert "no model here" in refused(tmp_path / "absent")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("surprise", 1, "surprise: unknown field"),
        ("window", "many", "window: "),
        ("format", 2, "format"),
    ],
)
def test_a_config_that_is_not_ours_is_told(saved, key, value, said):
    path = saved / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    message = refused(saved)
    assert message.startswith(str(path))
    assert said in message


def test_weights_of_another_model_are_told(saved, tiny_data, tmp_path):
    other = tiny_model(tiny_data, STREAMING_TINY.model_copy(update={"d_model": 32}))
    other.save_weights(saved / "model.safetensors")
    assert "not the weights of this model" in refused(saved)


def test_user_prompts_are_padded_with_zeros(tiny_data, histories):
    model = tiny_model(tiny_data, UEM_TINY)
    short = replace_columns(histories[0], 3)
    prompts = model.encode([short, histories[1]]).embeddings
    assert prompts.shape == (2, 10, 32)
    assert not prompts[0, 3:].any()
    assert prompts[0, :3].any(dim=-1).all()
    torch.testing.assert_close(prompts[:1, :3], model.encode([short]).embeddings, atol=1e-5, rtol=1e-5)


def replace_columns(history, count):
    columns = (history.item_ids, history.ratings, history.timestamps)
    return History(history.user_id, *(column[-count:] for column in columns))


def test_a_streaming_model_reads_everything_and_others_their_window(tiny_data, histories):
    longer = [replace_columns(history, 11) for history in histories]
    newest = [replace_columns(history, 10) for history in histories]
    for settings, reads, same in ((UEM_TINY, 10, True), (STREAMING_TINY, None, False)):
        model = tiny_model(tiny_data, settings)
        assert model.max_events == reads
        first, second = (model.encode(some).embeddings for some in (longer, newest))
        assert torch.equal(first, second) is same


def test_a_long_history_is_read_in_passes_to_the_same_prompt(streaming, histories, monkeypatch):
    whole = streaming.encode(histories)
    monkeypatch.setattr("palate.model.reading.EVENTS_AT_ONCE", 7)
    in_passes = streaming.encode(histories)
    torch.testing.assert_close(in_passes.embeddings, whole.embeddings, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(in_passes.category_logits, whole.category_logits, atol=1e-5, rtol=1e-5)


def test_the_last_rating_of_an_item_stands_and_in_its_place(model):
    repeated = History("someone", ["1", "2", "1", "3"], [1.0, 4.0, 5.0, 2.0], [1, 2, 3, 4])
    once = History("someone", ["2", "1", "3"], [4.0, 5.0, 2.0], [2, 3, 4])
    assert model.visible(repeated) == once
    assert torch.equal(model.encode([repeated]).embeddings, model.encode([once]).embeddings)
    assert model.generate([repeated]) == model.generate([once])


def test_only_the_most_recent_interactions_are_read(tiny_data, histories):
    model = tiny_model(tiny_data, UEM_TINY)
    newest = [replace_columns(history, 10) for history in histories]
    assert torch.equal(model.encode(newest).embeddings, model.encode(histories).embeddings)
    older = [replace_columns(history, 11) for history in histories]
    changed = [
        History(h.user_id, h.item_ids, [5.0 - h.ratings[0] + 1, *h.ratings[1:]], h.timestamps) for h in older
    ]
    assert torch.equal(model.encode(changed).embeddings, model.encode(histories).embeddings)


@pytest.mark.filterwarnings("error")
def test_a_history_without_interactions_is_answered(model, histories):
    nobody = History("nobody", [], [], [])
    alone = model.generate([nobody])
    assert model.generate([histories[0], nobody]) == [*model.generate(histories[:1]), *alone]


def test_no_histories_no_answers(model):
    assert model.generate([]) == []


def test_an_unknown_item_is_named(model):
    with pytest.raises(DataError, match=r"1 item id is not known: 'no-such-item'; give their texts"):
        model.generate([History("someone", ["1", "no-such-item"], [4.0, 3.0], [1, 2])])


@pytest.mark.parametrize("rating", [0.0, 3.7, 6.0, float("nan")])
def test_a_rating_off_the_scale_is_told(model, rating):
    message = (
        rf"user 'someone': the rating {rating:g} is not on the model's scale; expected one of 1, 2, 3, 4, 5"
    )
    with pytest.raises(DataError, match=message):
        model.generate([History("someone", ["1", "2"], [4.0, rating], [1, 2])])


def test_columns_of_other_lengths_are_told(model):
    with pytest.raises(DataError, match=r"user 'someone' has 2 item ids, 1 ratings and 2 timestamps"):
        model.generate([History("someone", ["1", "2"], [4.0], [1, 2])])


def test_the_predictor_answers_batch_by_batch_as_at_once(model, histories):
    windows = windows_of(histories, model.table, 10)
    predictor = PersonalizedPredictor(model, "ours", batch_size=3)
    assert predictor.predict(np.arange(4), windows) == model.answer(windows)


def test_a_table_in_another_order_gives_the_same_answers(model, histories):
    table = model.table
    order = np.random.default_rng(0).permutation(len(table))
    shuffled = ItemTable(
        [table.item_ids[index] for index in order],
        table.vectors[order],
        table.present[order],
        table.rating_values,
        table.rating_vectors,
        ENCODER,
    )
    before = model.encode(histories).embeddings
    again = model.with_table(shuffled).encode(histories).embeddings
    torch.testing.assert_close(again, before, atol=1e-6, rtol=0)


def test_a_table_of_another_encoder_is_refused(model, tiny_data):
    other = replace(made_up_table(tiny_data), encoder=replace(ENCODER, name="other", content="1" * 64))
    with pytest.raises(MismatchError, match=r"vectors of 'made-up'.*holds item vectors of 'other'"):
        model.with_table(other)


def test_a_table_on_another_scale_is_refused(model, tiny_data):
    table = made_up_table(tiny_data)
    with pytest.raises(MismatchError, match=r"has the ratings 1, 2, 3, 4, 5, the new table 0.5, 1"):
        model.with_table(replace(table, rating_values=table.rating_values / 2))


def test_new_items_are_known_by_their_texts(tiny_data, tiny_sentence_encoder, tmp_path):
    encoder = ItemEncoder(ItemSettings(encoder=str(tiny_sentence_encoder), max_seq_length=32, cache=tmp_path))
    model = tiny_model(tiny_data, STREAMING_TINY)
    model = PersonalizedModel(
        model.settings, load_backbone(model), build_item_table(tiny_data, encoder)
    ).eval()
    known = tiny_data.histories(tiny_data.user_ids[:2])
    before = model.encode(known).embeddings
    item = Item("new", "Film 99", ("Comedy",), "the movie is rated")
    more = model.with_items([item], encoder)
    assert torch.equal(more.encode(known).embeddings, before)
    liked, disliked = (
        more.encode([History("someone", ["new"], [rating], [1])]).embeddings for rating in (5.0, 1.0)
    )
    assert not torch.allclose(liked, disliked, atol=1e-4)


def test_a_model_with_more_items_shares_its_weights_and_leaves_the_first_as_it_is(
    tiny_data, tiny_sentence_encoder, tmp_path
):
    encoder = ItemEncoder(ItemSettings(encoder=str(tiny_sentence_encoder), max_seq_length=32, cache=tmp_path))
    made = tiny_model(tiny_data, STREAMING_TINY)
    table = build_item_table(tiny_data, encoder)
    model = PersonalizedModel(made.settings, load_backbone(made), table).eval()
    more = model.with_items([Item("new", "Film 99", ("Comedy",))], encoder)
    assert (len(more.table), len(model.table)) == (len(table) + 1, len(table))
    assert model.table is table
    with pytest.raises(DataError, match="'new'"):
        model.encode([History("someone", ["new"], [5.0], [1])])
    assert more.backbone is model.backbone
    weights = dict(model.named_parameters())
    assert all(weight is weights[name] for name, weight in more.named_parameters())
    assert model.with_items([]) is model


def test_a_device_that_is_not_there_is_refused_with_what_may_be_given(saved):
    with pytest.raises(MismatchError, match=r"device 'cuda:77' cannot be used .*expected 'auto', 'cpu'"):
        load_model(saved, device="cuda:77")
    with pytest.raises(MismatchError, match=r"device 'warp' cannot be used"):
        load_model(saved, device="warp")
    with pytest.raises(MismatchError, match=r"dtype 'int8' is unknown; expected 'float32'"):
        load_model(saved, dtype="int8")
    assert load_model(saved, device="auto").device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_backbone_may_compute_in_another_number_format(saved, histories):
    narrow = load_model(saved, dtype="bfloat16")
    assert narrow.backbone.dtype == torch.bfloat16
    assert narrow.encode(histories).embeddings.dtype == torch.float32
    windows = windows_of(histories, narrow.table, 10)
    likely, wide = (
        one.choose(windows, [("Action", "Drama")] * 4) for one in (narrow, load_model(saved, device="cpu"))
    )
    torch.testing.assert_close(likely.float().cpu(), wide, atol=0.05, rtol=0)
    assert len(narrow.generate(histories)) == 4


def load_backbone(model):
    from palate.backbones.base import Backbone

    return Backbone(model.backbone, model.tokenizer)
