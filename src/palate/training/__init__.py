"""Training: batches, clock and transformers' Trainer, fitted to the composed model.

Public names: ``from_python.train``, ``train.train_run``, ``side_by_side.train_side_by_side``,
``batches.TrainingBatches``, ``clock.Clock``.
"""
