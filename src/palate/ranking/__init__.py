"""Ranking of items: protocols without leakage, metrics of ranks, and references that every ranker is compared with.

Public names: ``base.Ranker``, ``compare.rank``.
"""
