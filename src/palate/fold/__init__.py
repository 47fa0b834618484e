"""Builds the states of many users from event logs ("folds" them), in local processes or on a Ray cluster.

Public names: ``job.fold_log``, ``job.FoldOptions``, ``read.load_states``, ``read.FoldedStates``.
"""
