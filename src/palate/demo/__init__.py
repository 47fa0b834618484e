"""The demo: from MovieLens 100K to a report."""
