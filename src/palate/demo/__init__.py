"""The ``palate demo`` command's work: two models on MovieLens 100K, and a report that compares them.

Public names: ``run.run_demo``.
"""
