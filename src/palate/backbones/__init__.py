"""Language models: loading, tokenizers, frames, LoRA and GGUF files."""
