"""The user store: events, histories and cached encodings, in SQLite or PostgreSQL.

Public names: ``store.UserStore``, ``changes.Event``.
"""
