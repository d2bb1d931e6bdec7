"""Doorward: WebSocket authentication that never hangs."""

__version__ = "0.1.0"
