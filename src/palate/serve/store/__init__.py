"""The user store: events, histories, and what was made of them, in SQLite or PostgreSQL.

Public names: ``store.UserStore``, ``changes.Event``.
"""
