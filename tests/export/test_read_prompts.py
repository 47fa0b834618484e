"""Reading exported prompts: an error for every damaged file, foreign model and unknown name; no code execution."""

import json
import pickle
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from palate.backbones.load import load_backbone
from palate.errors import DataError, MismatchError, PalateError
from palate.export.read import read_prompts
from palate.export.write import export_prompts
from palate.system.files import sha256_of
from tiny_causal import causal_model, save_causal

ASKED = "Which genres does this user like and dislike?"
USER_FILE, COMPLETE_FILE = "users/000001.safetensors", "complete/000001-0.b64"


@pytest.fixture(scope="module")
def made(tiny_data, tmp_path_factory):
    """A folder with a run and its export of two users."""
    place = tmp_path_factory.mktemp("prompts")
    model = causal_model(tiny_data, save_causal(place / "backbone"))
    model.save_pretrained(place / "run")
    histories = tiny_data.histories(tiny_data.user_ids[:2])
    export_prompts(place / "run", histories, place / "out", instructions=[ASKED])
    return place


@pytest.fixture
def out(made, tmp_path):
    return shutil.copytree(made / "out", tmp_path / "out")


def users(out):
    return read_prompts(out).user_ids


def replace(out, path, content):
    """Another content, which the manifest's checksum fits."""
    (out / path).write_bytes(content)
    change(out, lambda manifest: _set_digest(manifest, path, sha256_of(out / path)))


def _set_digest(manifest, path, digest):
    for user in manifest["users"]:
        for file in (user["user_prompt"], *user["complete"]):
            if file["path"] == path:
                file["sha256"] = digest


def change(out, edit):
    manifest = json.loads((out / "manifest.json").read_text())
    edit(manifest)
    (out / "manifest.json").write_text(json.dumps(manifest))


def test_what_is_whole_passes(made):
    prompts = read_prompts(made / "out", run=made / "run")
    prompts.check()
    assert prompts.user_prompt(prompts.user_ids[0]).dtype == torch.float32


@pytest.mark.parametrize("path", [USER_FILE, COMPLETE_FILE])
def test_a_changed_file_is_refused(out, path):
    content = bytearray((out / path).read_bytes())
    content[len(content) // 2] ^= 1
    (out / path).write_bytes(content)
    with pytest.raises(
        DataError, match=rf"{path}: its checksum is sha256:\w+, expected .*copy the export again"
    ):
        read_prompts(out).check()


@pytest.mark.parametrize("path", [USER_FILE, COMPLETE_FILE])
def test_a_missing_file_is_named(out, path):
    (out / path).unlink()
    with pytest.raises(DataError, match=rf"{path}: the file is missing"):
        read_prompts(out).check()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not safetensors", "not a safetensors file"),
        (pickle.dumps({"user_prompt": 1}), "not a safetensors file"),
        (save({"other": torch.zeros(6, 32)}), r"tensors \['other'\], expected one tensor 'user_prompt'"),
        (save({"user_prompt": torch.zeros(6, 31)}), r"float32 \[6, 31\], expected .*float32 \[6, 32\]"),
        (
            save({"user_prompt": torch.zeros(6, 32).half()}),
            r"float16 \[6, 32\], expected .*float32 \[6, 32\]",
        ),
        (save({"user_prompt": torch.full((6, 32), torch.nan)}), "values that are not finite"),
    ],
)
def test_a_file_that_is_something_else_is_refused_though_its_checksum_fits(out, content, message):
    replace(out, USER_FILE, content)
    with pytest.raises(DataError, match=message):
        read_prompts(out).user_prompt(users(out)[1])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda manifest: manifest.update(format=2), "format"),
        (lambda manifest: manifest.pop("users"), "users"),
        (lambda manifest: manifest.update(users=manifest["users"] * 2), "duplicate user"),
        (
            lambda manifest: manifest.update(instructions=[]),
            "1 complete prompts, expected 0, one for each instruction",
        ),
        (lambda manifest: manifest["users"][0]["user_prompt"].update(shape=[6, 33]), "different sizes"),
        (lambda manifest: manifest["users"][0]["user_prompt"].update(path="users/../../x"), "path"),
        (lambda manifest: manifest["users"][0]["user_prompt"].update(path="/etc/passwd"), "path"),
        (lambda manifest: manifest.update(dtype="int8"), "dtype"),
    ],
)
def test_a_manifest_that_is_not_whole_is_refused(out, edit, message):
    change(out, edit)
    with pytest.raises(DataError, match=rf"manifest\.json: .*{message}.*run palate export again"):
        read_prompts(out)


def test_a_folder_without_a_manifest_is_no_export(tmp_path):
    with pytest.raises(
        DataError, match=r"no manifest\.json here; expected a folder that palate export wrote"
    ):
        read_prompts(tmp_path)


def test_another_model_is_refused(made, tiny_data, tmp_path):
    causal_model(tiny_data, made / "backbone", task_prompt=2).save_pretrained(tmp_path / "other")
    with pytest.raises(MismatchError, match="was exported from a model with the weights sha256"):
        read_prompts(made / "out", run=tmp_path / "other")
    with pytest.raises(DataError, match="no model here"):
        read_prompts(made / "out", run=tmp_path)


def test_another_backbone_is_refused(made, tmp_path):
    from palate.config.recipe import CausalSettings

    prompts = read_prompts(made / "out")
    prompts.check_backbone(load_backbone(CausalSettings(name=str(made / "backbone")))[0].model)
    other, _ = load_backbone(CausalSettings(name=str(save_causal(tmp_path / "other", seed=1))))
    with pytest.raises(MismatchError, match="was exported for a backbone with the weights sha256"):
        prompts.check_backbone(other.model)


def test_an_unknown_user_or_instruction_is_named(made):
    prompts = read_prompts(made / "out")
    with pytest.raises(DataError, match="no user 'nobody' among the 2 of this export"):
        prompts.user_prompt("nobody")
    with pytest.raises(DataError, match=rf"no complete prompt for 'Why\?', expected one of: '{ASKED[:5]}"):
        prompts.prompt_embeds(prompts.user_ids[0], "Why?")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_an_error_of_palate(made, data):
    """One file with bytes changed, cut or added; in the manifest damage may also hit what nobody checks."""
    place = made / "damaged"
    shutil.rmtree(place, ignore_errors=True)
    out = shutil.copytree(made / "out", place)
    path = out / data.draw(st.sampled_from([USER_FILE, COMPLETE_FILE, "manifest.json"]))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["change", "cut", "add"]))
    new = data.draw(st.binary(min_size=1, max_size=8))
    damaged = {
        "change": whole[:at] + new + whole[at + len(new) :],
        "cut": whole[:at],
        "add": whole[:at] + new + whole[at:],
    }[kind]
    path.write_bytes(damaged)
    try:
        read_prompts(out).check()
    except PalateError:
        return
    assert damaged == whole or path.name == "manifest.json"
