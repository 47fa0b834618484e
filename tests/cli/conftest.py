"""Fixture: a small model in place of the packaged one."""

import pytest

from tiny import unbound_model


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The folder of a model that is bound to no data."""
    folder = tmp_path_factory.mktemp("shipped") / "packaged"
    unbound_model(grammar=True, max_new_tokens=48).save_pretrained(folder)
    return folder
