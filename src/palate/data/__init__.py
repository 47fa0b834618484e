"""From rating files to datasets, windows and examples."""
