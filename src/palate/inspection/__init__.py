"""Statistics of a dataset, for ``palate inspect``: tables for the terminal, and an HTML page.

Public names: ``inspect.inspect``, ``view.tables``, ``view.write_dataset_page``.
"""
