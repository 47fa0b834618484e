"""What a grammar allows, token by token."""


def accepts(grammar, token_ids, kind=None, decided=None):
    """Whether tokens, with the end token, are a whole answer."""
    state = grammar.start(kind, decided)
    for token in token_ids:
        if token not in state.allowed.tolist():
            return False
        state = grammar.follow(state, token)
    return not state.threads
