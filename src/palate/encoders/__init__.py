"""User encoders, which turn a history into a user prompt.

Public names: ``base.UserPrompt``, ``base.UserEncoder``, ``kinds.build_user_encoder``,
``batch.VectorCatalogue``, ``batch.EventBatch``, ``batch.windows_of``, ``streaming.StreamingEncoder``,
``state.UserState``, ``uem.UEM``, ``text.TextHistory``.
"""
