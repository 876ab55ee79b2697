"""Reports for users: benchmark, installation check, accuracy of engines, and the marks in a file.

Owns the reports. Depends on the pipeline and everything below it, not on the command line.
"""
