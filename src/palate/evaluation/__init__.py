"""The evaluator, its metrics, and comparisons of models, references and controls on the same examples.

Public names: ``results.evaluate``, ``compare.prepare_comparison``, ``evaluate.Evaluation``,
``evaluate.score_predictors``, ``evaluate.ask``, ``questions.questions_of_run``, ``metrics.Score``,
``attribution.attribute_prompts``.
"""
