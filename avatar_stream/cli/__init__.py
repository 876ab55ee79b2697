"""The ``avatar-stream`` command: its arguments, and one module for each group of commands.

Owns the command line and printed output. It may use every other package; no other package uses it.
"""
