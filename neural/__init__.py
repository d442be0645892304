"""Networks behind one protocol: ``denoise(x, t, condition) -> E[x_0 | x_t, condition]``."""
