"""Export of user prompts to files for other inference engines.

Public names: ``write.export_prompts``, ``read.read_prompts``.
"""
