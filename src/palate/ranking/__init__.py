"""Ranking of items: leakage-free protocols, rank metrics, and references that every ranker is compared with.

Public names: ``base.Ranker``, ``compare.rank``.
"""
