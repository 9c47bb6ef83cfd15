"""Tests of the console: a package, so that what its folder shares ends with it."""
