"""Sample, score and train in rounds that survive a kill."""
