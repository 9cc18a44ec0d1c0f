"""Take OTLP from programs in any language, on 127.0.0.1, through the guard."""
