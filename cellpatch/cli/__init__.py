"""Commands, one file each: argument parsing and printing."""
