"""OTLP in other forms than ours: what comes is made records, and lines are made requests."""
