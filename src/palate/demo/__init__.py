"""The demo: from MovieLens 100K to a report.

Public names: ``run.run_demo``.
"""
