"""The report formats: one file a format, `render(audit) -> str`."""
