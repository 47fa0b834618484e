"""Event and item files with any columns: CSV, JSON lines, Parquet and sequences.

Public names: ``read.read_own``, ``settings.own_settings``.
"""
