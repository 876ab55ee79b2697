"""Strangers at the door: HTTP, signalling, sessions and control."""
