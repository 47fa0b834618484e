"""Generative recommenders: language models that answer from ids and prompts, and write explanations.

Public names: ``text_metrics.TextScores``, ``text_metrics.score_texts``.
"""
