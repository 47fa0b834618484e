"""Everything that answers: references, controls and models behind one protocol.

For outside: ``base.Predictor``, ``personalized.PersonalizedPredictor``, ``references.references``.
"""
