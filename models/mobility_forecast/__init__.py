"""Where a user will be: displacement over the next seconds, with the radius that holds it."""
