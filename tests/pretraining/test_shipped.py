"""The packaged model: small, without a dataset, and as good as its estimates on unseen users."""

import numpy as np
import pytest
import torch

from palate.config.recipe import UniversalSettings
from palate.data.population import summarise
from palate.data.windows import draw_windows
from palate.encoders.calibration import counts_of, read_in_batches
from palate.encoders.estimates import PopulationInputs
from palate.encoders.universal import UniversalNetwork
from palate.model.model import load_model
from palate.runs.run import PACKAGED_FOLDER
from palate.schema import membership
from palate.tasks.statistics import category_statistics
from small_dataset import small_dataset, small_task


@pytest.fixture(scope="module")
def shipped():
    return load_model("packaged", device="cpu")


def test_it_takes_at_most_ten_megabytes_and_holds_no_pickle():
    files = [path for path in PACKAGED_FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 10_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md"}


def test_it_is_of_no_data(shipped):
    assert shipped.settings.categories == ()
    assert shipped.settings.data_fingerprint == ""


def test_its_network_is_likelier_to_be_right_than_the_estimates_alone(shipped):
    dataset = small_dataset()
    task, users = small_task(dataset), np.arange(len(dataset.user_ids))
    inputs = PopulationInputs.of([summarise(dataset, task)])
    full = category_statistics(dataset.interactions, dataset.category_matrix, dataset.rating_values)
    labels = task.labels(full)
    truth = np.stack([membership(half, 8) for half in (labels.liked, labels.disliked)], -1)
    torch.manual_seed(0)
    losses = []
    for network in (UniversalNetwork(UniversalSettings()), shipped.user_encoder.network):
        windows = draw_windows(dataset.interactions, users, 10, "random", np.random.default_rng(0))
        counts = counts_of(windows.interactions(), dataset.category_matrix, dataset.info.rating_values)
        logits = read_in_batches(network, counts, inputs)
        losses.append(np.logaddexp(0, np.where(truth, -logits, logits)).mean())
    assert losses[1] < losses[0]


def test_the_example_of_its_card_answers_for_a_user_of_any_dataset(
    shipped, tiny_data, tmp_path, monkeypatch, capsys
):
    assert (PACKAGED_FOLDER / "README.md").read_text() == shipped.card
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine").symlink_to(tiny_data.path)
    monkeypatch.chdir(tmp_path)
    example = shipped.card_named("packaged").split("```python\n")[1].split("```")[0]
    exec(example, {})
    assert capsys.readouterr().out.startswith("The user likes ")
