"""Reproduces the paper's tables: plans, trains and measures their systems, and writes the results.

Public names: ``plan.make_plan``, ``engine.run_cells``, ``results.gather``, ``markdown.as_markdown``.
"""
