"""Checks which token sequences a grammar accepts."""


def accepts(grammar, token_ids, kind=None, decided=None):
    """Return whether tokens, followed by the end token, are a complete answer."""
    state = grammar.start(kind, decided)
    for token in token_ids:
        if token not in state.allowed.tolist():
            return False
        state = grammar.follow(state, token)
    return not state.threads
