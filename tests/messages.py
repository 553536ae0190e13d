"""Sentences that several tests look for: whoever words one anew changes it here; see test_messages.py."""

NOT_THE_SAME_QUESTIONS = "not asked the same questions"
"""Two tables of predictions cannot be paired."""

NO_SPACE = "has no space left"
"""A disk is full; of a store, of what is read, or of what is written."""

LEADS_OUT = "leads out of"
"""A name would be a path outside of the folder that it is joined to."""

CANNOT_BE_OPENED = "cannot be opened"
"""A tracking store does not answer, or lets nobody in."""
