"""Exported prompts: the bare backbone decodes them to the model's own answers; atomic output."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from engine import as_vllm_reads, engine_answer, saved
from palate.config.recipe import StreamingSettings, UEMSettings
from palate.errors import DataError, MismatchError, OutputError
from palate.export.read import read_prompts
from palate.export.write import as_prompt_embeds, export_prompts
from palate.model.generation import write
from palate.model.model import load_model
from palate.model.prompt import Prompt
from palate.schema import History, Item
from palate.system.files import sha256_of
from tiny import tiny_model
from tiny_causal import causal_model, save_causal

ENGINES = Path(__file__).parents[2] / "docs" / "engines.md"
EXAMPLE = Path(__file__).parents[2] / "examples" / "ask_engine.py"
INSTRUCTION = "Which genres does this user like and dislike?"
OTHER = "The user likes no genre"


@pytest.fixture
def histories(tiny_data):
    return tiny_data.histories(tiny_data.user_ids[:3])


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma", "gemma2", "gemma3"])
def test_the_bare_backbone_answers_as_the_model_does(tiny_data, histories, tmp_path, family):
    backbone = save_causal(tmp_path / "backbone", family)
    run = saved(causal_model(tiny_data, backbone), tmp_path / "run")
    export_prompts(run, histories, tmp_path / "out", instructions=["", OTHER])
    model, prompts = load_model(run), read_prompts(tmp_path / "out", run)
    bare = AutoModelForCausalLM.from_pretrained(backbone, dtype=torch.float32).eval()
    prompts.check_backbone(bare)
    expected = {
        (one.user_id, asked): model.generate([one], asked)[0]
        for one in histories
        for asked in prompts.manifest.instructions
    }
    found = {key: engine_answer(prompts, *key, bare, model.tokenizer) for key in expected}
    assert found == expected
    assert_reads_the_same(bare, model, prompts, histories)


@torch.inference_mode()
def assert_reads_the_same(bare, model, prompts, histories):
    """A tiny model may say the same of everybody: its logits do not."""
    first = []
    for one in histories:
        prompt = as_vllm_reads(prompts.prompt_embeds(one.user_id), bare.config, bare.dtype)[None]
        own = model.complete(model.encode([one])).embeddings
        first.append(bare(inputs_embeds=prompt).logits[0, -1])
        torch.testing.assert_close(
            first[-1], model.backbone(inputs_embeds=own).logits[0, -1], atol=1e-4, rtol=1e-4
        )
    assert all((first[0] - other).abs().max() > 1e-3 for other in first[1:])


@torch.inference_mode()
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma", "gemma2", "gemma3"])
def test_so_does_one_in_bfloat16(tiny_data, histories, tmp_path, family):
    """Within rounding, which decides between tokens that are all but even, and with them on all that follow."""
    backbone = save_causal(tmp_path / "backbone", family)
    run = saved(causal_model(tiny_data, backbone), tmp_path / "run")
    export_prompts(run, histories, tmp_path / "out", instructions=[""], dtype="bfloat16")
    model, prompts = load_model(run), read_prompts(tmp_path / "out")
    bare = AutoModelForCausalLM.from_pretrained(backbone, dtype=torch.bfloat16).eval()
    own = [model.complete(model.encode([one])) for one in histories]
    model.backbone.to(torch.bfloat16)
    for one, prompt in zip(histories, own, strict=True):
        narrow = Prompt(prompt.embeddings.to(torch.bfloat16), prompt.mask)
        answer = write(model.backbone, model.frame, narrow, model.settings.max_new_tokens)
        written = bare.get_input_embeddings()(answer)  # as both are fed what they write
        read = as_vllm_reads(prompts.prompt_embeds(one.user_id), bare.config, bare.dtype)[None]
        found = bare(inputs_embeds=torch.cat([read, written], dim=1)).logits.float()
        expected = model.backbone(inputs_embeds=torch.cat([narrow.embeddings, written], dim=1)).logits.float()
        assert (found - expected).std() < 0.03 * expected.std()
        places = found[0, len(read[0]) - 1 : -1]  # where each token of the answer was chosen
        chosen = places.gather(1, answer[0][:, None]).squeeze(1)
        assert (places.max(dim=1).values - chosen).max() < 0.15 * expected.std()


def test_user_prompts_are_those_that_the_model_reads(tiny_data, histories, tmp_path):
    run = saved(
        tiny_model(tiny_data, UEMSettings(num_layers=1, num_heads=2, d_kv=8, d_ff=32)), tmp_path / "run"
    )
    short = History("short", tiny_data.item_ids[:3], [1.0, 3.0, 5.0], [0, 1, 2])
    manifest = export_prompts(run, [*histories, short], tmp_path / "out", data_fingerprint="here")
    prompts = read_prompts(tmp_path / "out", run)
    prompts.check()
    assert prompts.user_ids == [*(one.user_id for one in histories), "short"]
    assert prompts.user_prompt("short").shape == (3, 32)  # one vector an interaction, no padding
    for one, expected in zip(
        [*histories, short], load_model(run).encode([*histories, short]).split(), strict=True
    ):
        torch.testing.assert_close(prompts.user_prompt(one.user_id), expected)
    assert manifest == prompts.manifest
    assert (manifest.generation, manifest.backbone.train, manifest.data_fingerprint) == (None, "full", "here")
    first = manifest.users[0].user_prompt
    assert sha256_of(tmp_path / "out" / first.path) == first.sha256
    with safe_open(tmp_path / "out" / first.path, "pt") as file:
        assert list(file.keys()) == ["user_prompt"]


def test_an_encoder_decoder_has_no_complete_prompts(tiny_data, histories, tmp_path):
    run = saved(
        tiny_model(tiny_data, StreamingSettings(num_queries=4, d_model=16, num_layers=1, num_heads=2)),
        tmp_path / "run",
    )
    with pytest.raises(MismatchError, match=r"encoder-decoder.*export without --instruction"):
        export_prompts(run, histories, tmp_path / "out", instructions=[INSTRUCTION])
    assert not (tmp_path / "out").exists()


@pytest.fixture
def run(tiny_data, tmp_path):
    return saved(causal_model(tiny_data, save_causal(tmp_path / "backbone")), tmp_path / "run")


def test_what_fails_leaves_nothing_behind(run, histories, tmp_path):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match=rf"user '{histories[0].user_id}' is given twice"):
        export_prompts(run, [*histories, histories[0]], tmp_path / "out")
    with pytest.raises(DataError, match="no users to export"):
        export_prompts(run, [], tmp_path / "out")
    with pytest.raises(DataError, match="'gone'"):
        export_prompts(run, [*histories, History("u", ["gone"], [1.0], [0])], tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_an_export_is_not_overwritten(run, histories, tmp_path):
    made = export_prompts(run, histories, tmp_path / "out")
    with pytest.raises(OutputError, match="is not empty; name a new folder"):
        export_prompts(run, histories[:1], tmp_path / "out")
    assert read_prompts(tmp_path / "out").manifest == made


def test_the_same_export_has_the_same_files(run, histories, tmp_path):
    first, second = (
        export_prompts(run, histories, tmp_path / name, instructions=[INSTRUCTION, "", OTHER])
        for name in "ab"
    )
    assert first.users == second.users
    assert first.instructions == (INSTRUCTION, OTHER)


def test_numbers_too_large_for_the_dtype_are_refused(tiny_data, histories, tmp_path):
    model = causal_model(tiny_data, save_causal(tmp_path / "backbone"))
    with torch.no_grad():
        model.task_prompt.fill_(1e6)
    run = saved(model, tmp_path / "run")
    with pytest.raises(DataError, match="not finite in float16; use another --dtype"):
        export_prompts(run, histories, tmp_path / "out", instructions=[""], dtype="float16")
    export_prompts(run, histories, tmp_path / "out", instructions=[""], dtype="bfloat16")


def test_new_items_are_read_by_their_user_alone(run, histories, tmp_path, new_items_read):
    mine = {histories[1].user_id: [Item("x", "Film")]}
    export_prompts(run, histories, tmp_path / "out", new_items=mine)
    assert new_items_read == [mine[histories[1].user_id]]
    assert set(read_prompts(tmp_path / "out").user_ids) == {one.user_id for one in histories}


def test_a_view_is_saved_without_what_lies_around_it():
    whole = torch.arange(64 * 4096, dtype=torch.float32).reshape(64, 4096)
    text = as_prompt_embeds(whole[3:5])
    assert len(text) < 60_000
    assert torch.equal(torch.load(io.BytesIO(base64.b64decode(text)), weights_only=True), whole[3:5])


@pytest.fixture
def place(tiny_data, tmp_path, monkeypatch):
    """A folder with what docs/engines.md speaks of: a dataset and a run."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_data.path, "data/ml-1m")
    saved(causal_model(tiny_data, save_causal(tmp_path / "backbone")), tmp_path / "runs" / "taste")
    return tmp_path


def test_the_snippets_of_the_documentation_run(place):
    found = {}
    for snippet in re.findall(r"^```python\n(.*?)^```$", ENGINES.read_text(), re.DOTALL | re.MULTILINE):
        exec(snippet, found)
    assert found["prompt"].dtype == torch.float32
    assert found["prompts"].user_ids == ["42"]
    assert read_prompts(place / "prompts/taste").user_ids == ["42", "7"]


def test_the_example_asks_an_engine(place, tiny_data):
    export_prompts("runs/taste", tiny_data.histories(["42", "7"]), "prompts", instructions=[""])
    bare = AutoModelForCausalLM.from_pretrained("backbone", dtype=torch.float32).eval()
    asked = []

    class Engine(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            prompt = as_vllm_reads(asked[-1][1]["prompt_embeds"], bare.config, torch.float32)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"choices": [{"text": f"read {len(prompt)} vectors"}]}).encode())

        def log_message(self, *_arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Engine) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [sys.executable, EXAMPLE, "prompts", "7", "--model", "tiny"]
        url = f"http://127.0.0.1:{server.server_port}"
        done = subprocess.run([*command, "--url", url], capture_output=True, text=True)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    manifest = read_prompts("prompts").manifest
    length = manifest.users[1].complete[0].shape[0]
    assert done.stdout == f"read {length} vectors\n"
    path, body = asked[0]
    assert path == "/v1/completions"
    assert body.keys() == {"model", "prompt_embeds", "max_tokens", "temperature", "stop_token_ids"}
    assert (body["model"], body["stop_token_ids"]) == ("tiny", list(manifest.generation.stop_token_ids))


def test_the_example_refuses_a_damaged_file(place, tiny_data):
    manifest = export_prompts("runs/taste", tiny_data.histories(["42"]), "prompts", instructions=[""])
    (place / "prompts" / manifest.users[0].complete[0].path).write_text("AAAA")
    done = subprocess.run(
        [sys.executable, EXAMPLE, "prompts", "42", "--model", "tiny"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "is damaged; copy the export again" in done.stderr


CHAT = (
    "<s>{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] }}</turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)


def test_a_message_in_the_engines_template_is_the_whole_prompt(tiny_data, histories, tmp_path):
    backbone = save_causal(tmp_path / "backbone", template=CHAT)
    run = saved(causal_model(tiny_data, backbone, chat=True), tmp_path / "run")
    for api in ("chat", "completions"):
        export_prompts(run, histories, tmp_path / api, instructions=["", OTHER], api=api)
    messages, whole = (read_prompts(tmp_path / api, run) for api in ("chat", "completions"))
    messages.check()
    bare = AutoModelForCausalLM.from_pretrained(backbone, dtype=torch.float32).eval()
    frame = load_model(run).frame
    for user_id in messages.user_ids:
        for asked in messages.manifest.instructions:
            message = messages.message(user_id, asked)
            assert message["role"] == "user"
            (part,) = message["content"]
            assert part["type"] == "prompt_embeds"
            inner = as_vllm_reads(part["data"], bare.config, torch.float32)
            around = [
                bare.get_input_embeddings()(torch.tensor(ids)) for ids in (frame.opening, frame.closing)
            ]
            prompt = as_vllm_reads(whole.prompt_embeds(user_id, asked), bare.config, torch.float32)
            torch.testing.assert_close(torch.cat([around[0], inner, around[1]]), prompt)
    with pytest.raises(MismatchError, match=r"was exported for completions.*export with --api chat"):
        whole.message("1")


def test_messages_are_for_models_that_were_trained_with_the_template(run, histories, tmp_path):
    with pytest.raises(MismatchError, match=r"was trained without one.*model\.backbone\.chat=true"):
        export_prompts(run, histories, tmp_path / "out", instructions=[""], api="chat")
    assert not (tmp_path / "out").exists()
