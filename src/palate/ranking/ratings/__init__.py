"""Comparison of predicted ratings: who predicts held-out stars best, and whose chances of a like are true.

Public names: ``base.RatingPredictor``, ``protocols.make_rating_split``, ``compare.score_ratings``.
"""
