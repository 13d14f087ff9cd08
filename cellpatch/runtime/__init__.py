"""What every room stands on: files and locks, processes, devices, progress, errors."""
