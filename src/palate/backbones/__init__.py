"""Backbone language models: loading, tokenizers, prompt frames, LoRA and GGUF files.

Public names: ``base.Backbone``, ``load.load_backbone``, ``load.find_backbone``, ``load.rebuild_backbone``,
``load.weights_digest``, ``source.BackboneSource``, ``t5.random_t5``, ``lora.merge_lora``, ``lora.save_lora``.
"""
