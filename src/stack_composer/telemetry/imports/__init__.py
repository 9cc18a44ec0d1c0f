"""Bring in what other programs and computers recorded, through the guard, once."""
