"""One call at several replicas: which one is asked, which is asked next if it fails, and how long."""
