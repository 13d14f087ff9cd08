"""Classifiers on cached features of a frozen backbone."""
