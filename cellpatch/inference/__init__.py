"""What a stored run is used for: prediction, export, latency, separability."""
