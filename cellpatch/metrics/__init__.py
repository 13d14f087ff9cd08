"""Scores of predictions: pure functions of labels, probabilities and counts."""
