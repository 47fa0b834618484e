"""Reads exports as an inference engine does, with a backbone that does not depend on palate."""

import base64
import io

import torch


def as_vllm_reads(text, config, dtype):
    """Load prompt embeddings with the checks of vLLM's ``safe_load_prompt_embeds``, without vLLM."""
    tensor = torch.load(
        io.BytesIO(base64.b64decode(text, validate=True)), weights_only=True, map_location="cpu"
    )
    assert isinstance(tensor, torch.Tensor)
    assert tensor.to_dense().dim() == 2
    assert tensor.shape[1] == config.hidden_size
    assert tensor.dtype == dtype
    return tensor


def engine_answer(prompts, user_id, instruction, backbone, tokenizer):
    """Generate an answer from prompt embeddings with a bare backbone."""
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
