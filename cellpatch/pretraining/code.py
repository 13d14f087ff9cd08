"""The number of the pretraining's code."""

# Raise it whenever pretrained weights change for equal settings: entries of the cache are then made anew, and runs are
# others. The golden losses in tests/test_pretraining.py hold it.
PRETRAINING_CODE = 1
