"""The promoted model at work: its bundle, answers that may be withheld, the service, and the watch for drift."""
