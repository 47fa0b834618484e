"""Reports: self-contained HTML pages, their data as JSON, and tables for the terminal, Markdown and LaTeX.

Public names: ``build.build_report``, ``build.read_report``, ``build.render_page``, ``data.ReportData``,
``sheet.Sheet``, ``fitted.fitted_table``, ``pictures.draw``.
"""
