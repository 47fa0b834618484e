import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.numpy import load_file, save_file

from palate.config.recipe import ItemSettings
from palate.errors import DataError, MissingExtraError, OutputError, RecipeError
from palate.items import encoder as encoder_module
from palate.items import encoder_files
from palate.items.cache import VectorCache
from palate.items.encoder import ItemEncoder
from palate.items.texts import ItemTexts
from palate.schema import Item
from palate.system.extras import install_line

TEXTS = [f"the movie {number} is listed with genres comedy {'a b c ' * (number % 7)}" for number in range(40)]


@pytest.fixture
def encoder_of(tiny_encoder, tmp_path):
    def make(cache: str = "cache", folder: Path = tiny_encoder, **settings) -> ItemEncoder:
        return ItemEncoder(ItemSettings(encoder=str(folder), cache=tmp_path / cache, **settings))

    return make


@pytest.fixture
def copied(tiny_encoder, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_encoder, tmp_path / "copy"))


class Counted:
    """A progress callback that keeps what it was told."""

    def __init__(self):
        self.calls = []

    def __call__(self, done, total):
        self.calls.append((done, total))

    @property
    def encoded(self):
        return self.calls[-1][1] if self.calls else 0


def test_vectors_are_what_sentence_transformers_gives(encoder_of, tiny_encoder):
    from sentence_transformers import SentenceTransformer

    vectors = encoder_of().encode(TEXTS)
    assert vectors.dtype == np.float32
    expected = SentenceTransformer(str(tiny_encoder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_each_distinct_text_is_encoded_once(encoder_of, monkeypatch):
    counted = Counted()
    first = encoder_of().encode([*TEXTS, *reversed(TEXTS)], counted)
    assert counted.encoded == len(TEXTS)
    np.testing.assert_array_equal(first[: len(TEXTS)], first[len(TEXTS) :][::-1])

    def refuse(*_):
        raise AssertionError("the model was loaded for cached texts")

    monkeypatch.setattr(encoder_module, "_load_model", refuse)
    np.testing.assert_array_equal(encoder_of().encode(TEXTS), first[: len(TEXTS)])


def test_no_text_gives_no_rows(encoder_of):
    assert encoder_of().encode([]).shape == (0, 32)


def test_a_vector_does_not_depend_on_its_batch(encoder_of):
    together = encoder_of("together", batch_size=16).encode(TEXTS)
    alone = encoder_of("alone", batch_size=1).encode(TEXTS[::-1])[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_batches_run_from_longest_to_shortest(encoder_of, monkeypatch):
    encoder, sizes = encoder_of(batch_size=4), []
    forward = ItemEncoder._forward
    monkeypatch.setattr(
        ItemEncoder,
        "_forward",
        lambda self, batch: sizes.append(list(map(len, batch))) or forward(self, batch),
    )
    encoder.encode(TEXTS)
    flat = [size for batch in sizes for size in batch]
    assert flat == sorted(flat, reverse=True)
    assert max(map(len, sizes)) == 4


def test_texts_are_cut_at_max_seq_length(encoder_of):
    same, other = encoder_of(max_seq_length=8).encode(["a b c d e f g", "a b c d e f comedy"])
    np.testing.assert_allclose(same, other, atol=1e-6)
    same, other = encoder_of(max_seq_length=9).encode(["a b c d e f g", "a b c d e f comedy"])
    assert np.abs(same - other).max() > 1e-3


def test_a_copy_of_the_model_is_the_same_encoder(encoder_of, copied):
    (copied / "README.md").write_text("moved")
    assert encoder_of(folder=copied).identity == encoder_of().identity
    encoder_of().encode(TEXTS)
    counted = Counted()
    encoder_of(folder=copied).encode(TEXTS, counted)
    assert counted.encoded == 0


def test_what_changes_the_vectors_changes_the_identity(encoder_of, copied):
    identities = {encoder_of().identity.digest, encoder_of(max_seq_length=8).identity.digest}
    modules = copied / "modules.json"
    original = modules.read_text()
    modules.write_text(json.dumps(json.loads(original)[:2]))  # no normalisation
    identities.add(encoder_of(folder=copied).identity.digest)
    modules.write_text(original)
    pooling = copied / "1_Pooling" / "config.json"
    pooling.write_text(pooling.read_text().replace("mean", "max"))
    identities.add(encoder_of(folder=copied).identity.digest)
    weights = load_file(copied / "model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, copied / "model.safetensors")
    identities.add(encoder_of(folder=copied).identity.digest)
    assert len(identities) == 5


def test_every_file_but_documents_and_other_formats_counts_for_the_identity(encoder_of, copied):
    before = encoder_of(folder=copied).identity.digest
    for unread in ("NOTES.md", ".gitattributes", "pytorch_model.bin", "onnx/model.json"):
        (copied / unread).parent.mkdir(exist_ok=True)
        (copied / unread).write_text("x")
    assert encoder_of(folder=copied).identity.digest == before
    (copied / "custom.py").write_text("x = 1")
    assert encoder_of(folder=copied).identity.digest != before


@pytest.mark.parametrize(
    "kind",
    [
        "custom.Encoder",
        "sentence_transformers.models.Router",
        "sentence_transformers_evil.Pooling",
        "os.system",
    ],
)
def test_modules_that_could_execute_code_are_refused_before_anything_is_imported(encoder_of, copied, kind):
    (copied / "custom.py").write_text(f"import pathlib; pathlib.Path({str(copied / 'ran')!r}).touch()")
    modules = json.loads((copied / "modules.json").read_text())
    modules[1]["type"] = kind
    (copied / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(RecipeError, match=rf"names the module '{kind}', which may execute foreign code"):
        encoder_of(folder=copied).encode(TEXTS)
    assert not (copied / "ran").exists()


@pytest.mark.parametrize("content", ["[" * 100_000, "{}", '{"a": 1}', "[1]", '[{"name": "0"}]', "no JSON"])
def test_a_list_of_modules_that_is_none_is_refused_in_one_line(encoder_of, copied, content):
    (copied / "modules.json").write_text(content)
    with pytest.raises(RecipeError, match=r"items\.encoder: .*modules\.json is not a list of modules"):
        encoder_of(folder=copied).encode(TEXTS)


def test_the_packaged_encoder_is_only_loaded_with_the_files_that_palate_knows(monkeypatch, copied):
    monkeypatch.setattr(encoder_files, "_packaged_folder", lambda: copied)
    with pytest.raises(
        RecipeError, match=r"are not those of version 0\.1\.0 .* pip install --force-reinstall"
    ):
        _ = ItemEncoder(ItemSettings(encoder=encoder_files.PACKAGED)).identity


def test_planted_vectors_of_another_length_are_replaced_by_the_encoders(encoder_of, tmp_path):
    cache = VectorCache(tmp_path / "cache" / encoder_of().identity.digest[:16])
    keys = [encoder_of()._key(text) for text in TEXTS[:8]]
    cache.append(keys, np.ones((8, 3), np.float32))
    with pytest.warns(UserWarning, match="is damaged; it is ignored"):
        found = encoder_of().encode(TEXTS)
    np.testing.assert_allclose(found, encoder_of("fresh").encode(TEXTS), atol=1e-5)
    np.testing.assert_array_equal(encoder_of().encode(TEXTS), found)


def test_a_damaged_chunk_is_encoded_again(encoder_of, tmp_path):
    first = encoder_of().encode(TEXTS)
    (chunk,) = (tmp_path / "cache").glob("*/*.safetensors")
    chunk.write_bytes(chunk.read_bytes()[:-1])
    counted = Counted()
    with pytest.warns(UserWarning, match="its texts are encoded again"):
        again = encoder_of().encode(TEXTS, counted)
    assert counted.encoded == len(TEXTS)
    np.testing.assert_array_equal(again, first)


def test_killed_midway_it_resumes_after_the_last_chunk(encoder_of, tiny_encoder, tmp_path):
    script = """
import json, os, pathlib, signal, sys
from palate.config.recipe import ItemSettings
from palate.items import encoder
encoder.CHUNK = 8
folder, cache, texts = json.loads(sys.argv[1])
settings = ItemSettings(encoder=folder, cache=pathlib.Path(cache), batch_size=4)
kill = lambda done, total: done == 20 and os.kill(os.getpid(), signal.SIGKILL)
encoder.ItemEncoder(settings).encode(texts, kill)
"""
    arguments = json.dumps([str(tiny_encoder), str(tmp_path / "cache"), TEXTS])
    killed = subprocess.run([sys.executable, "-c", script, arguments], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    counted = Counted()
    resumed = encoder_of().encode(TEXTS, counted)
    assert counted.encoded == len(TEXTS) - 16
    np.testing.assert_allclose(resumed, encoder_of("fresh").encode(TEXTS), atol=1e-5)


def test_cached_texts_need_no_torch(encoder_of, tiny_encoder, tmp_path):
    encoder_of().encode(TEXTS)
    script = """
import json, pathlib, sys
from palate.config.recipe import ItemSettings
from palate.items.cache import VectorCache
from palate.items.encoder import ItemEncoder
folder, cache, texts = json.loads(sys.argv[1])
assert ItemEncoder(ItemSettings(encoder=folder, cache=pathlib.Path(cache))).encode(texts).shape == (40, 32)
assert "torch" not in sys.modules
"""
    arguments = json.dumps([str(tiny_encoder), str(tmp_path / "cache"), TEXTS])
    subprocess.run([sys.executable, "-c", script, arguments], check=True)


def test_damaged_weights_are_named(encoder_of, copied):
    weights = load_file(copied / "model.safetensors")
    save_file({name: array * np.nan for name, array in weights.items()}, copied / "model.safetensors")
    with pytest.raises(DataError, match=r"vector for 'the movie"):
        encoder_of(folder=copied).encode(TEXTS)
    (copied / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(RecipeError, match="is not a model that sentence-transformers can load"):
        encoder_of(folder=copied).encode(TEXTS)


def test_an_unwritable_cache_is_refused_before_the_model_is_loaded(encoder_of, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    encoder = encoder_of()
    with pytest.raises(OutputError, match=r"set items\.cache to another folder"):
        encoder.encode(TEXTS)
    assert "_model" not in vars(encoder)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="contains no weights"):
        _ = ItemEncoder(ItemSettings(encoder=str(tmp_path))).identity


def test_the_missing_package_names_its_install(monkeypatch):
    monkeypatch.setattr(encoder_files, "PACKAGE", "no_such_package")
    with pytest.raises(MissingExtraError, match=re.escape(install_line("minilm"))):
        _ = ItemEncoder(ItemSettings()).identity


def test_an_unknown_package_names_the_known_one():
    with pytest.raises(RecipeError, match="expected packaged:all-MiniLM-L6-v2"):
        _ = ItemEncoder(ItemSettings(encoder="packaged:other")).identity


def test_a_hub_name_without_network_names_the_ways_out(monkeypatch):
    def offline(*_, **__):
        raise LocalEntryNotFoundError("no route to the hub")

    monkeypatch.setattr(encoder_files, "snapshot_download", offline)
    with pytest.raises(
        RecipeError, match=r"'some/model' .*no route to the hub.*the folder of a copy, or packaged:"
    ):
        _ = ItemEncoder(ItemSettings(encoder="some/model")).identity


def test_a_wrong_path_is_neither_folder_nor_name():
    with pytest.raises(RecipeError, match="neither a folder nor a name on the hub"):
        _ = ItemEncoder(ItemSettings(encoder="/no/such/folder")).identity


def test_the_hubs_local_copy_is_used_without_asking_the_hub(monkeypatch, tiny_encoder, encoder_of):
    def local(_name, *, local_files_only, **_):
        assert local_files_only
        return str(tiny_encoder)

    monkeypatch.setattr(encoder_files, "snapshot_download", local)
    assert ItemEncoder(ItemSettings(encoder="some/model")).identity == encoder_of().identity


@pytest.mark.skipif(find_spec(encoder_files.PACKAGE) is None, reason="needs palate[minilm]")
def test_the_packaged_encoder_knows_genres(tmp_path):
    texts = ItemTexts()
    items = [
        Item("1", "Alien", ("Horror", "Sci-Fi")),
        Item("2", "Toy Story", ("Animation", "Children's")),
        Item("3", "Unforgiven", ("Western",)),
    ]
    words = ["horror in space", "a cartoon for children", "cowboys, a western"]
    vectors = ItemEncoder(ItemSettings(cache=tmp_path)).encode([*map(texts.title, items), *words])
    assert vectors.shape == (6, 384)
    similarity = vectors[:3] @ vectors[3:].T
    np.testing.assert_array_equal(similarity.argmax(axis=0), [0, 1, 2])
    np.testing.assert_array_equal(similarity.argmax(axis=1), [0, 1, 2])
