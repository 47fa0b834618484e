"""Answers in words: what a free question asks, what scores and the user encoder's view say to it, and the reasons.

Public names: ``answerer.Answerer``, ``answerer.WordedAnswer``, ``load.load_answerer``, ``reasons.Explanation``,
``reasons.explain``.
"""
