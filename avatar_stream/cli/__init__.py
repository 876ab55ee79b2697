"""The ``avatar-stream`` command: what it takes, and one module for each group of its commands.

Owns words on the command line and what is printed. Knows all the rest; nothing else knows it.
"""
