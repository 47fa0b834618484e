"""palate: a user's taste, learned from a long history, handed to a language model as soft prompts."""
