"""How large a crop may be."""

MAX_SIDE_PX = 2048  # of a crop with its margin: 64 of them, which are decoded together, take 800 MB
