"""Tables of events and items of any columns: CSV, JSON lines and Parquet files.

Public names: ``read.read_own``, ``settings.own_settings``.
"""
