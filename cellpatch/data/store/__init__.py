"""The cell store on disk: reader and writer."""
