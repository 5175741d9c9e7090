"""The commands: one file = one command, a config dataclass and its wiring."""
