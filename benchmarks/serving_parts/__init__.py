"""Code shared by ``benchmarks/serving.py`` and ``benchmarks/recommending.py``."""
