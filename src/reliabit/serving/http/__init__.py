"""The service over HTTP; its doors are `application`, `access` (who may ask), `limits`, `messages` and `intake`."""
