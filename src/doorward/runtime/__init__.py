"""The asyncio shell around `core`: it keeps the time, asks, waits no longer than it may, and remembers."""
