"""MovieLens releases: fetching them and reading their files.

For outside: ``fetch.RELEASES``, ``layouts.find_layout``, ``descriptions.read_descriptions``.
"""
