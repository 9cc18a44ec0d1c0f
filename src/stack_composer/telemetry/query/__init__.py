"""Answer questions about bundles: select, aggregate, present; never write."""
