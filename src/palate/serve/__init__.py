"""The server: users' events in a store, user prompts and answers over HTTP.

Public names: ``run.serve``, ``settings.ServeSettings``, ``app.create_app``.
"""
