"""Recipes: the settings, and how they are read from YAML."""
