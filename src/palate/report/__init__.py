"""Reports and tables: HTML pages that hold everything, the JSON that they are drawn from, and terminal views.

Public names: ``build.build_report``, ``build.read_report``, ``build.render_page``, ``data.ReportData``,
``sheet.Sheet``, ``fitted.fitted_table``, ``pictures.draw``.
"""
