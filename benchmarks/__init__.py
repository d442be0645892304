"""One file for each claim of speed or accuracy; each prints a table, with a peer measured in the same run."""
