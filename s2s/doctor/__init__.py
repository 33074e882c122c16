"""Checks of hosts: whether s2s can run there, and what to mend.

`facts` gathers the facts of a host, `network` and `shared_storage` try what hosts do together, and
`checks` and `together` turn all that into `findings`. None of it needs Ray. What runs on every host
imports the standard library alone, so that it also runs where packages are missing.
"""
