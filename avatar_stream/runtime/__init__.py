"""Where networks execute: one small protocol, two runtimes."""
