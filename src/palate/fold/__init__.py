"""Event logs of many users folded into states, by one machine's processes or by a Ray cluster's.

Public names: ``job.fold_log``, ``job.FoldOptions``, ``read.load_states``, ``read.FoldedStates``.
"""
