"""Items as texts and as cached vectors."""
