"""Export of user prompts to files for other inference engines.

For outside: ``write.export_prompts``, ``read.read_prompts``.
"""
