"""The user store, and the server that answers from it."""
