"""Facts read from the user's source, without running it."""
