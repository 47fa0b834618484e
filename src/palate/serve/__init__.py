"""The server: users' events in a store, user prompts and answers over HTTP.

For outside: ``run.serve``, ``settings.ServeSettings``, ``app.create_app``.
"""
