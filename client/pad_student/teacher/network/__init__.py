"""One try of one call over the network: HTTP, deadlines, proxies, and which failures may pass."""
