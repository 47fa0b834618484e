"""User prompts as files for other engines.

For outside: ``write.export_prompts``, ``read.read_prompts``.
"""
