"""Reference rankers: rules and small models without a language model, each tuned with the same budget.

``kinds.py`` registers them by name.
"""
