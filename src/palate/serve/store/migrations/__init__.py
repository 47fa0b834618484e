"""The versions of the user store's schema, and how one becomes the next."""
