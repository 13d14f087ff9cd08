"""From annotated images to batches of crops: sources, the cell store, splits, augmentation."""
