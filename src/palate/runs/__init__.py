"""Runs: the output folder of a training, its manifest, and the dataset that it was trained on.

For outside: ``run.RunFolder``, ``run.open_run``, ``run.load_run``, ``data.dataset_of``.
"""
