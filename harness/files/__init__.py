"""Configuration backups: nginx, Redis, compose, environment templates, certificates, scripts."""

from __future__ import annotations

from typing import Final

from ..component import Component
from .checks import CHECKS
from .layout import recognise
from .restore import inspect, outcome, restore, subject

COMPONENT: Final = Component("files", recognise, inspect, restore, subject, outcome, CHECKS)
