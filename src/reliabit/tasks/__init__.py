"""The tasks, one file each: what a process does from configuration to written files."""
