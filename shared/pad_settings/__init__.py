"""How both programs read their settings: flags over variables over YAML over defaults, with help and near misses."""
