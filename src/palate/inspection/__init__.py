"""Inspection of a dataset.

Public names: ``inspect.inspect``, ``view.tables``, ``view.write_dataset_page``.
"""
