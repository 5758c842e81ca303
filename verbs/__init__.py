"""The verbs of the command door: each parses, calls and prints; what it needs is imported when it is called."""
