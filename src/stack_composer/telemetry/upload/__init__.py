"""Decide what may leave this computer, show it, send it, and write down that it left."""
