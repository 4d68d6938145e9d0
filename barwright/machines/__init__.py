"""The state machines of the roles: what each task, batch, connection and wait is doing, and what it may do next."""
