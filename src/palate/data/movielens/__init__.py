"""MovieLens releases: fetching them and reading their files."""
