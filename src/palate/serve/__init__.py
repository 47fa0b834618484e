"""The HTTP server: stored events of users, user prompts and answers.

Public names: ``run.serve``, ``settings.ServeSettings``, ``app.create_app``.
"""
