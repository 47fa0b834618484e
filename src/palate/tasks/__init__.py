"""What a language model is asked about a user, and how its answer is read back."""
