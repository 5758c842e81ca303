"""How the hosts of a run find each other."""
