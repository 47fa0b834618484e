"""The HTTP server: stores users' events, encodes user prompts and answers questions.

Public names: ``run.serve``, ``settings.ServeSettings``, ``app.create_app``.
"""
