"""Measurements that ship because they take long, and what makes them again."""
