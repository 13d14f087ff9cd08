"""From Hydra's config to an Experiment; no other room sees the config as a dict."""
