"""What is in a dataset, before anything is trained.

For outside: ``inspect.inspect``, ``view.tables``, ``view.write_dataset_page``.
"""
