"""Tables of events and items: CSV, JSON lines and Parquet files of any columns."""
