"""What is in a dataset, before anything is trained.

Public names: ``inspect.inspect``, ``view.tables``, ``view.write_dataset_page``.
"""
