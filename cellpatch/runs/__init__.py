"""From an experiment to its stored run: identity, record, locks, runner, checks."""
