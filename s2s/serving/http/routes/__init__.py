"""The paths of the HTTP interface, by whose interface they are."""
