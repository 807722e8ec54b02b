"""The pytest suites that users run on their backups; a package, so that theirs may have the same names."""
