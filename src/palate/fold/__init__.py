"""Folding event logs of many users into user states, in local processes or on a Ray cluster.

Public names: ``job.fold_log``, ``job.FoldOptions``, ``read.load_states``, ``read.FoldedStates``.
"""
