"""Finished work on local disk, until the pool has confirmed it."""
