"""Have the system purge once a day, where no program runs long enough to do it.

``plans`` says what each kind of system needs: files, and commands; it is pure, so that
what is shown is what is done. ``apply`` writes the files and runs the commands.
"""
