"""User encoders: a history in, a user prompt out."""
