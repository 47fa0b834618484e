"""Reports and tables: self-contained HTML pages, their JSON data, and terminal views.

Public names: ``build.build_report``, ``build.read_report``, ``build.render_page``, ``data.ReportData``,
``sheet.Sheet``, ``fitted.fitted_table``, ``pictures.draw``.
"""
