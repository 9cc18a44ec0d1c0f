"""Bundles on the user's own disk: one signal a file, OTLP JSON lines, mode 0600.

``writer`` appends, ``seal`` compresses, ``recover`` adopts what the dead left,
``reader`` reads, ``retention`` deletes. ``names`` says what a file is by its name.
"""
