"""Tokens on their way between pools and files, whole and checked."""
