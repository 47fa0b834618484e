"""The parts that ``benchmarks/serving.py`` and ``benchmarks/recommending.py`` share."""
