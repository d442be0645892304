"""The front door: the ``speciation`` command, one file a figure, sweeps and reports."""
