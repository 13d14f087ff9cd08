"""Statistics of stored runs: pure functions of arrays."""
