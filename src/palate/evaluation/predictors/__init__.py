"""Predictors: references, controls and models behind one protocol.

Public names: ``base.Predictor``, ``personalized.PersonalizedPredictor``, ``references.references``.
"""
