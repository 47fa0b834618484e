"""Pretraining of the packaged weights, on random populations and random names only.

Public names: ``language.LanguagePretraining``, ``language.pretrain_names``, ``language.pretrain_entities``.
"""
