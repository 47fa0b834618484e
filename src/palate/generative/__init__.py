"""Generative recommenders: language models that recommend, rate and explain from prompts with ids.

Public names: ``p5.IdLanguageModel``, ``recommender.GenerativeRecommender``, ``files.load_generative``,
``p5_training.train_generative``, ``text_metrics.TextScores``, ``text_metrics.score_texts``.
"""
