"""The demo: from MovieLens 100K to a report.

For outside: ``run.run_demo``.
"""
