"""The report of a run: one HTML page that holds everything, and the JSON it is rebuilt from."""
