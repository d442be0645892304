"""One file a claim of speed or accuracy; each prints a table with its peer measured in the same run."""
