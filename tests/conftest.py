"""Settings of all tests, and the tiny world that tests of model and training share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # it warns when a test starts a process
settings.register_profile("palate", deadline=None)  # a busy machine is no failure
settings.load_profile("palate")


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
