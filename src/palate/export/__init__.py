"""User prompts as files for other engines."""
