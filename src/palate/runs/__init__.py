"""Run folders, their manifests, and the datasets that runs were trained on.

Public names: ``run.RunFolder``, ``run.open_run``, ``run.load_run``, ``data.dataset_of``.
"""
