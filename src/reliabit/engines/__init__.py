"""Models that another engine serves: asked over its protocol, answered into the same predictions table."""
