"""A run records its exports, and a deleted user is removed from them."""

import shutil

import pytest

from engine import saved
from palate.errors import DataError
from palate.export.noted import NOTED, exports_with, forget_user, note_export
from palate.export.read import read_prompts
from palate.export.write import export_prompts
from palate.serve.engine import digest_of_files
from tiny_causal import causal_model, save_causal


@pytest.fixture
def run(tiny_data, tmp_path):
    return saved(causal_model(tiny_data, save_causal(tmp_path / "backbone")), tmp_path / "run")


def test_a_user_goes_out_of_the_exports_that_hold_them(run, tiny_data, tmp_path):
    first, second, third = tiny_data.histories(tiny_data.user_ids[:3])
    before = digest_of_files(run, b"").hexdigest()
    export_prompts(run, [first, second], tmp_path / "both", instructions=[""])
    export_prompts(run, [third], tmp_path / "other")
    export_prompts(run, [first], tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved")
    assert digest_of_files(run, b"").hexdigest() == before, "prompts that are kept stay valid"
    assert exports_with(run, first.user_id) == [tmp_path / "both"]
    files = [
        tmp_path / "both" / file.path for file in read_prompts(tmp_path / "both").manifest.users[0].files
    ]
    forget_user(tmp_path / "both", first.user_id)
    prompts = read_prompts(tmp_path / "both", run)
    assert prompts.user_ids == [second.user_id]
    prompts.check()
    assert not any(one.exists() for one in files)
    assert exports_with(run, first.user_id) == []
    forget_user(tmp_path / "both", first.user_id)  # nothing is left to do


def test_what_an_interrupted_export_has_left_goes_too(run, tiny_data, tmp_path):
    (history,) = tiny_data.histories(tiny_data.user_ids[:1])

    def stop(_done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_prompts(run, [history], tmp_path / "out", report=stop)
    left = tmp_path / ".out.partial"
    assert any((left / "users").iterdir())
    assert exports_with(run, history.user_id) == [tmp_path / "out"]
    forget_user(tmp_path / "out", history.user_id)
    assert not left.exists()


def test_a_list_that_is_damaged_is_not_taken_for_an_empty_one(run, tmp_path):
    assert note_export(run, tmp_path / "out")
    (run / NOTED).write_text("{")
    with pytest.raises(DataError, match=NOTED):
        exports_with(run, "ann")


def test_the_packaged_model_notes_nothing_without_data(tmp_path):
    assert not note_export("packaged", tmp_path / "out")
    assert note_export("packaged", tmp_path / "out", tmp_path)
    assert exports_with("packaged", "ann", tmp_path) == []
