"""Pretraining without labels, on crops of the training specimens alone."""
