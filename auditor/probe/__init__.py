"""The child process: runs the user's script under observation. The only package that imports torch."""
