"""Provado: proves that backups restore. See docs/architecture.md for the way through the code."""

__version__ = "0.1.0"
