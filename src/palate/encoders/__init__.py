"""User encoders: a history in, a user prompt out.

For outside: ``base.UserPrompt``, ``base.UserEncoder``, ``kinds.build_user_encoder``,
``batch.VectorCatalogue``, ``batch.EventBatch``, ``batch.windows_of``, ``streaming.StreamingEncoder``,
``state.UserState``, ``uem.UEM``, ``text.TextHistory``.
"""
