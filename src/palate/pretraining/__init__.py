"""The weights that are shipped, made from random populations and random names alone.

Public names: ``language.LanguagePretraining``, ``language.pretrain_names``, ``language.pretrain_entities``.
"""
