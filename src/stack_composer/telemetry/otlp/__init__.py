"""OTLP from elsewhere: protobuf decoded, and what was decoded turned into records."""
