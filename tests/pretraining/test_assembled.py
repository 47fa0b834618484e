"""The packaged model is assembled from pretrained parts, and names the categories of any data."""

import pytest
import torch

from palate.config.recipe import UniversalSettings
from palate.encoders.universal import UniversalNetwork
from palate.model.model import load_model
from palate.pretraining.assemble import assembled
from palate.pretraining.language import LanguagePretraining, pretrain_names
from palate.tasks import load_task

SIZES = UniversalSettings(d_model=16, num_layers=1, num_heads=2)


@pytest.fixture(scope="module")
def parts():
    settings = LanguagePretraining(
        d_model=32, d_ff=32, num_layers=1, catalogues=10, vocab_size=400, name_tokens=(4, 6), steps=2, users=2
    )
    torch.manual_seed(0)
    return UniversalNetwork(SIZES), pretrain_names(settings, SIZES.d_model)


def test_all_its_weights_are_the_pretrained_ones(parts):
    network, language = parts
    model = assembled(network, SIZES, language)
    expected = {
        **{f"user_encoder.network.{name}": one for name, one in network.state_dict().items()},
        **{f"user_encoder.prompt.{name}": one for name, one in language.names.state_dict().items()},
        **{f"backbone.{name}": one for name, one in language.backbone.state_dict().items()},
        "task_prompt": language.task_prompt,
    }
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], one) for name, one in expected.items())


def test_bound_to_data_it_answers_within_the_grammar(parts, tiny_data, tmp_path):
    assembled(*parts[:1], SIZES, parts[1]).save_pretrained(tmp_path / "model")
    model = load_model(tmp_path / "model", device="cpu").bind(tiny_data)
    assert model.constrained
    task = load_task(model.settings.task, tiny_data.info)
    for text in model.generate(tiny_data.histories(tiny_data.user_ids[:5])):
        assert task.target_texts(task.parse([text])) == [text]
