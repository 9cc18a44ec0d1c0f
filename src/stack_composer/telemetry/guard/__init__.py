"""Keep secrets, personal data and content out of everything that is written."""
