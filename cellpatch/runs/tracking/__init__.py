"""What experiment trackers show of a run: W&B, TensorBoard, CSV, MLflow. Nothing of it is read back."""
