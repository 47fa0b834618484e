"""Item texts encoded by several processes have the vectors of a single one."""

import numpy as np

from palate.config.recipe import ItemSettings
from palate.items import shards
from palate.items.encoder import ItemEncoder
from palate.system.engines import shard_engine

TEXTS = [f"the movie {number} is listed with {'a b c ' * (number % 7)}" for number in range(30)]


def test_shards_fill_the_cache_with_the_same_vectors(tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "CHUNK", 8)
    monkeypatch.setattr("palate.items.encoder.CHUNK", 8)
    one, two = (
        ItemSettings(encoder=str(tiny_encoder), cache=tmp_path / name, batch_size=4)
        for name in ("one", "two")
    )
    expected = ItemEncoder(one, "cpu").encode(TEXTS)
    with shard_engine("local", 2) as engine:
        assert shards.encode_by_shards(two, [*TEXTS, TEXTS[0]], engine) == len(TEXTS)
        assert shards.encode_by_shards(two, TEXTS, engine) == 0
    encoder = ItemEncoder(two, "cpu")
    monkeypatch.setattr(encoder, "_forward", None)  # all are there
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, rtol=1e-6, atol=1e-7)
    chunks = [
        sorted(path.name for path in (tmp_path / name).glob("*/*.safetensors")) for name in ("one", "two")
    ]
    assert len(chunks[0]) == len(chunks[1]) == 4
