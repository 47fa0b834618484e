"""The user store: events, histories, and what was made of them, in SQLite or PostgreSQL.

For outside: ``store.UserStore``, ``changes.Event``.
"""
