"""Pages for a browser: the explorer of the theory, and saved results to look at closely."""
