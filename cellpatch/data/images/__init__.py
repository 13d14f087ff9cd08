"""Images from disk: decoding, regions, crops."""
