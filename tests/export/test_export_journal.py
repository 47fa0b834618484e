"""An interrupted export resumes: same files, finished ones not rewritten."""

import json
from pathlib import Path

import pytest

import palate.export.write
from palate.errors import DataError
from palate.export.read import read_prompts
from palate.export.write import export_prompts
from palate.schema import History, Item
from tiny_causal import causal_model, save_causal

ASKED = "Which genres does this user like and dislike?"


@pytest.fixture(scope="module")
def run(tiny_data, tmp_path_factory):
    place = tmp_path_factory.mktemp("journal")
    causal_model(tiny_data, save_causal(place / "hub"), train="lora").save_pretrained(place / "run")
    return place / "run"


@pytest.fixture
def histories(tiny_data):
    return tiny_data.histories(tiny_data.user_ids[:7])


@pytest.fixture
def encoded(monkeypatch):
    """The ids of users as they are encoded, in batches of two."""
    batches, whole = [], palate.export.write._encoded

    def listening(model, batch, asked):
        batches.append([one.user_id for one in batch])
        return whole(model, batch, asked)

    monkeypatch.setattr("palate.export.write._encoded", listening)
    monkeypatch.setattr("palate.export.write.BATCH", 2)
    return batches


def interrupted(run, histories, out, after=4, **settings):
    """The folder that is left of an export that was interrupted when so many users were done."""

    def stop(done):
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_prompts(run, histories, out, instructions=[ASKED], report=stop, **settings)
    assert not out.exists()
    (left,) = out.parent.glob(f".{out.name}.partial")
    return left


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }


def assert_as_if_it_had_not_been(run, histories, out, whole, **settings):
    expected = export_prompts(run, histories, whole, instructions=[ASKED], **settings)
    assert contents(out) == contents(whole)
    assert read_prompts(out, run).manifest == expected.model_copy(
        update={"made": read_prompts(out).manifest.made}
    )
    read_prompts(out).check()
    assert sorted(path.name for path in out.parent.iterdir()) == sorted([out.name, whole.name])


def test_it_goes_on_where_it_stopped(run, histories, encoded, tmp_path):
    left = interrupted(run, histories, tmp_path / "out")
    before = {path.name: path.stat().st_ino for path in left.rglob("*.*") if path.suffix != ".jsonl"}
    assert len(before) == 8
    encoded.clear()
    told = []
    export_prompts(run, histories, tmp_path / "out", instructions=[ASKED], report=told.append)
    assert told == [2, 4, 6, 7]
    assert encoded == [[one.user_id for one in histories[4:6]], [histories[6].user_id]]
    after = {path.name: path.stat().st_ino for path in (tmp_path / "out").rglob("*.*")}
    assert before.items() <= after.items()  # not written again
    assert_as_if_it_had_not_been(run, histories, tmp_path / "out", tmp_path / "whole")


def damage_first(left):
    (left / "users" / "000000.safetensors").write_bytes(b"half")


def remove_second(left):
    (left / "complete" / "000001-0.b64").unlink()


@pytest.mark.parametrize("damage", [damage_first, remove_second])
def test_a_finished_file_that_is_not_whole_is_written_again(run, histories, encoded, tmp_path, damage):
    damage(interrupted(run, histories, tmp_path / "out"))
    encoded.clear()
    export_prompts(run, histories, tmp_path / "out", instructions=[ASKED])
    assert encoded[0] == [one.user_id for one in histories[:2]]
    assert len(encoded) == 3
    assert_as_if_it_had_not_been(run, histories, tmp_path / "out", tmp_path / "whole")


@pytest.mark.parametrize("cut", [1, 30, 700])
def test_a_line_that_was_being_written_is_written_again(run, histories, encoded, tmp_path, cut):
    journal = interrupted(run, histories, tmp_path / "out") / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut])
    export_prompts(run, histories, tmp_path / "out", instructions=[ASKED])
    assert_as_if_it_had_not_been(run, histories, tmp_path / "out", tmp_path / "whole")


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"[\n"])
def test_a_journal_that_is_none_starts_anew(run, histories, encoded, tmp_path, content):
    (interrupted(run, histories, tmp_path / "out") / "journal.jsonl").write_bytes(content)
    encoded.clear()
    export_prompts(run, histories, tmp_path / "out", instructions=[ASKED])
    assert len(encoded) == 4
    assert_as_if_it_had_not_been(run, histories, tmp_path / "out", tmp_path / "whole")


def test_another_dtype_starts_anew(run, histories, encoded, tmp_path):
    interrupted(run, histories, tmp_path / "out")
    encoded.clear()
    export_prompts(run, histories, tmp_path / "out", instructions=[ASKED], dtype="bfloat16")
    assert len(encoded) == 4
    assert_as_if_it_had_not_been(run, histories, tmp_path / "out", tmp_path / "whole", dtype="bfloat16")


def test_fewer_users_leave_no_files_of_others(run, histories, encoded, tmp_path):
    interrupted(run, histories, tmp_path / "out")
    export_prompts(run, histories[:2], tmp_path / "out", instructions=[ASKED])
    assert_as_if_it_had_not_been(run, histories[:2], tmp_path / "out", tmp_path / "whole")


def test_a_user_whose_history_has_grown_is_encoded_again(run, histories, encoded, tmp_path):
    interrupted(run, histories, tmp_path / "out")
    one = histories[0]
    histories[0] = History(one.user_id, one.item_ids[1:], one.ratings[1:], one.timestamps[1:])
    encoded.clear()
    export_prompts(run, histories, tmp_path / "out", instructions=[ASKED])
    assert one.user_id in encoded[0]
    assert_as_if_it_had_not_been(run, histories, tmp_path / "out", tmp_path / "whole")


def test_new_items_that_were_written_are_not_encoded_again(run, histories, encoded, tmp_path, new_items_read):
    mine = {histories[1].user_id: [Item("x", "Film")]}
    interrupted(run, histories, tmp_path / "out", new_items=mine)
    export_prompts(run, histories, tmp_path / "out", instructions=[ASKED], new_items=mine)
    assert new_items_read == [[Item("x", "Film")]]
    interrupted(run, histories, tmp_path / "next", new_items=mine)
    mine[histories[1].user_id] = [Item("x", "Another")]
    export_prompts(run, histories, tmp_path / "next", instructions=[ASKED], new_items=mine)
    assert new_items_read == [[Item("x", "Film")], [Item("x", "Film")], [Item("x", "Another")]]


def test_one_that_ended_in_its_weights_does_not_encode_again(run, histories, encoded, tmp_path, monkeypatch):
    def cut(model, weights, out, dtype):
        (out / weights).mkdir()
        (out / weights / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("palate.export.write.write_weights", cut)
        with pytest.raises(KeyboardInterrupt):
            export_prompts(run, histories, tmp_path / "out", instructions=[ASKED], weights="backbone")
    encoded.clear()
    export_prompts(run, histories, tmp_path / "out", instructions=[ASKED], weights="adapter")
    assert encoded == []
    assert_as_if_it_had_not_been(run, histories, tmp_path / "out", tmp_path / "whole", weights="adapter")


def test_bad_input_leaves_nothing_of_what_was_finished(run, histories, encoded, tmp_path):
    interrupted(run, histories, tmp_path / "out")
    with pytest.raises(DataError, match="'gone'"):
        export_prompts(run, [*histories, History("u", ["gone"], [1.0], [0])], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_is_exported_may_hold_any_line_end(run, histories, encoded, tmp_path):
    asked, strange = "Which\u2028genres?\x85", "me\u2028\x85\n"
    one = histories[0]
    histories[0] = History(strange, one.item_ids, one.ratings, one.timestamps)

    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_prompts(run, histories[:2], tmp_path / "out", instructions=[asked], report=stop)
    encoded.clear()
    export_prompts(run, histories[:2], tmp_path / "out", instructions=[asked])
    assert encoded == []
    assert strange in read_prompts(tmp_path / "out").user_ids
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["instructions"] == [asked]
