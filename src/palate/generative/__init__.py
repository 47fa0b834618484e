"""Generative recommenders: language models that answer from ids and prompts, and write explanations.

Public names: ``p5.IdLanguageModel``, ``recommender.GenerativeRecommender``, ``files.load_generative``,
``p5_training.train_generative``, ``text_metrics.TextScores``, ``text_metrics.score_texts``.
"""
