"""Stages, shards, plans and the local runner."""
