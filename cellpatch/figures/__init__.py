"""Style, captions and tables of figures."""
