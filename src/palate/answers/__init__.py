"""Answers to free-text questions: matching to a kind, answers from scores and category probabilities, and reasons.

Public names: ``answerer.Answerer``, ``answerer.WordedAnswer``, ``load.load_answerer``, ``reasons.Explanation``,
``reasons.explain``.
"""
