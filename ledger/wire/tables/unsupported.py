"""Reasons for which several operations refuse a parameter."""

from __future__ import annotations

NO_CONNECT = "moving money between connected accounts is not supported"
