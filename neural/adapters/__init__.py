"""Denoisers from networks of other libraries; import `from_torch` and `from_diffusers` from `neural`."""
