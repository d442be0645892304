"""Decisions that ship: one partition file for each, read by `neural.decisions`."""
