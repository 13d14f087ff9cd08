"""Blur and resize of crops as one linear operator."""
