"""What people look into this program with: bench, doctor, parity of engines, what a file says of itself.

Owns reports. Knows the pipeline and what it runs on; no command line.
"""
