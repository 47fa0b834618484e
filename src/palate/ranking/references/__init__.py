"""References of a ranking: rules and small models without a language model, each tuned with the same budget.

They are registered in ``kinds.py`` and found by name.
"""
