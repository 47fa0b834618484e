"""User encoders: modules that map a history to a user prompt.

Public names: ``base.UserPrompt``, ``base.UserEncoder``, ``kinds.build_user_encoder``,
``batch.VectorCatalogue``, ``batch.EventBatch``, ``batch.windows_of``, ``streaming.StreamingEncoder``,
``state.UserState``, ``uem.UEM``, ``text.TextHistory``.
"""
