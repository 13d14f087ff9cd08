"""Backbones: [b, 3, h, w] in [0, 1] to [b, num_features]; each owns its input side, mean and std.

To add one: docs/recipes.md.
"""
