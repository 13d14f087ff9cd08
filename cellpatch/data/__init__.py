"""From labelled cells on disk to batches."""
