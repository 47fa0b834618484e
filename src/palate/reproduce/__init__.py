"""The paper's tables, rebuilt: cells that are trained once, beside the paper's own figures.

Public names: ``plan.make_plan``, ``engine.run_cells``, ``results.gather``, ``markdown.as_markdown``.
"""
