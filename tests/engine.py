"""An engine for the tests: what it reads of an export, and a backbone that knows nothing of palate."""

import base64
import io

import torch


def as_vllm_reads(text, config, dtype):
    """What vLLM's ``safe_load_prompt_embeds`` does and refuses, without the engine."""
    tensor = torch.load(
        io.BytesIO(base64.b64decode(text, validate=True)), weights_only=True, map_location="cpu"
    )
    assert isinstance(tensor, torch.Tensor)
    assert tensor.to_dense().dim() == 2
    assert tensor.shape[1] == config.hidden_size
    assert tensor.dtype == dtype
    return tensor


def engine_answer(prompts, user_id, instruction, backbone, tokenizer):
    """The answer of a backbone that knows nothing of palate."""
    prompt = as_vllm_reads(prompts.prompt_embeds(user_id, instruction), backbone.config, backbone.dtype)[None]
    asked = prompts.manifest.generation
    ids = backbone.generate(
        inputs_embeds=prompt,
        attention_mask=torch.ones(prompt.shape[:2], dtype=torch.long),
        max_new_tokens=asked.max_tokens,
        do_sample=False,
        eos_token_id=list(asked.stop_token_ids),
        pad_token_id=asked.stop_token_ids[0],
    )
    return tokenizer.decode(ids[0], skip_special_tokens=True)


def saved(model, folder):
    model.save_pretrained(folder)
    return folder
