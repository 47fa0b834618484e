"""Tables of events and items of any columns: CSV, JSON lines and Parquet files.

For outside: ``read.read_own``, ``settings.own_settings``.
"""
