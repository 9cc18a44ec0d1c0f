"""Record: from an application's call to a finished record in a buffer."""
