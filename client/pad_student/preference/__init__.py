"""The mathematics of preferences: rewards, Plackett-Luce distributions, losses; and their settings."""
