"""`tracking=offline`: runs recorded in a folder, where no server can be reached, until they are imported."""
