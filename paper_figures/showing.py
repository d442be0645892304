"""What ``speciation show`` prints and draws, by the format that a file names."""
