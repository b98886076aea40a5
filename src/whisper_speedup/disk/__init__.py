"""Files that are there whole or not at all, the lock, progress, and a disk's failures in words."""
