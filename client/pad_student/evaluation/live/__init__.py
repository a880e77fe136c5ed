"""The runs below a folder, on one page that follows them while they train."""
