"""Grafana's dashboard and what provisions it."""
