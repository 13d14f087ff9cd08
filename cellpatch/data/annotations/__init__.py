"""Annotation files of several formats, one file a format, read as points with a class."""
