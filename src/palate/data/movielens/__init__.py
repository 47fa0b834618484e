"""MovieLens releases: fetching them and reading their files.

Public names: ``fetch.RELEASES``, ``layouts.find_layout``, ``descriptions.read_descriptions``.
"""
