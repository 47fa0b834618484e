"""The user store: events, histories and what was made of them."""
