"""Training: batches, clock and transformers' Trainer, fitted to the composed model.

For outside: ``from_python.train``, ``train.train_run``, ``side_by_side.train_side_by_side``,
``batches.TrainingBatches``, ``clock.Clock``.
"""
