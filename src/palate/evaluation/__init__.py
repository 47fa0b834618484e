"""Scores of predictors on the same examples, and their comparison."""
