"""Mounts: trees as directories, before they have arrived."""
