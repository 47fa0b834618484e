"""Comparison of rating predictors on held-out ratings: errors, order and calibration.

Public names: ``base.RatingPredictor``, ``protocols.make_rating_split``, ``compare.score_ratings``.
"""
