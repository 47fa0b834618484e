"""Migrations of the user store's schema."""
