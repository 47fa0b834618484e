"""Recommendation from the catalogue: scores of every item, expected ratings and choices from a user's history."""
