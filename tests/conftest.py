"""Pytest configuration, and fixtures of the tiny dataset shared by tests of model and training."""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # it warns when a test starts a process
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores
settings.register_profile(
    "palate", deadline=None, derandomize=True
)  # the same examples on every machine, busy or not
settings.register_profile(
    "explore", deadline=None
)  # pytest --hypothesis-profile=explore: new examples each time
settings.load_profile("palate")
gc.disable()  # while modules are imported, of which nothing is garbage


LONG = (
    *("test_reproduce.py", "test_train.py", "test_demo.py", "test_from_a_start.py", "test_shipped_speech.py"),
    *("test_answers.py", "test_early_checks.py", "test_hostile.py", "test_references.py", "test_readme.py"),
    *("test_one_of_each.py", "test_damaged_files.py", "test_engine_serving.py", "test_deleting_items.py"),
    *("test_train_variants.py", "test_train_rivals.py", "test_reproducible.py", "test_frozen_backbone.py"),
    *("test_not_finite.py", "test_answers_table.py", "test_entities.py", "test_page_in_browser.py"),
    *("test_tutorial.py", "test_notebooks.py"),
    *("test_deaths.py", "test_folding.py", "test_tables_by_workers.py", "test_shards.py"),
)
"""Files that take long, however few tests they have: a worker that gets one last keeps the others waiting."""


def pytest_collection_modifyitems(items):
    """Run the slowest files first."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def pytest_collection_finish():
    """Freeze imported objects, so that the garbage collections of each training skip them."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """A prepared dataset of 50 users, 60 movies and 5 genres."""
    from tiny import prepare_tiny

    return prepare_tiny(tmp_path_factory.mktemp("tiny-data"))


@pytest.fixture(scope="session")
def tiny_sentence_encoder(tmp_path_factory) -> Path:
    """A sentence encoder's folder, with vectors of size 16."""
    from tiny import save_tiny_encoder

    return save_tiny_encoder(tmp_path_factory.mktemp("tiny-encoder") / "made")


@pytest.fixture
def new_items_read(monkeypatch):
    """Record the new items that an export passes to the model; the model is unchanged."""
    read = []

    def with_items(model, items):
        if items:
            read.append(list(items))
        return model

    monkeypatch.setattr("palate.model.model.PersonalizedModel.with_items", with_items)
    return read


@pytest.fixture(scope="session", autouse=True)
def small_boosting():
    """Shrink the reference ``boosting`` so that fitting is fast, except in its own tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"MOST_WINDOWS": 400, "TREES": 10}.items():
            patch.setattr(f"palate.evaluation.predictors.boosting.{name}", value)
        yield
