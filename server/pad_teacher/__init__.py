"""The teacher service: one resident language model that scores response sets for many student jobs."""
