"""Export: where guarded lines go besides the bundles."""
