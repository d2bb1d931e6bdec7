"""The drill: faults on purpose, real WebSockets, and a judge. It reaches doors and auth services over sockets only."""
