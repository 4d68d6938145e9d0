"""A hypothesis state machine over a whole Barwright on real services: faults of every kind, then every bar and every
message accounted for."""
