"""Bring what was allowed to one destination: the only room that opens connections."""
