"""The demo on MovieLens 100K.

Public names: ``run.run_demo``.
"""
