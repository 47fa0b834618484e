"""MovieLens releases: download, and reading of their files.

Public names: ``fetch.RELEASES``, ``layouts.find_layout``, ``descriptions.read_descriptions``.
"""
