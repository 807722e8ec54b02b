"""Suites about more than one backup are collected where provado.yaml declares what they are about."""

from harness.run.declared import declared


def pytest_ignore_collect(collection_path, config):
    """Leave out what is not declared."""
    return None if declared(config, collection_path.name) else True
