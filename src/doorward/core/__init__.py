"""Pure decisions: no clock, no socket, no logging, no environment, no randomness. Time is an argument."""
