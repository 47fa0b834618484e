"""Reproduction of the paper's tables.

Public names: ``plan.make_plan``, ``engine.run_cells``, ``results.gather``, ``markdown.as_markdown``.
"""
