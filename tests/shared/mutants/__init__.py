"""Mutation tests: whether a small change of the code is seen by the tests that run the changed line.

`python -m mutants` in the root of the project, or `make test-mutants`; CONTRIBUTING.md says how to read it.
"""
