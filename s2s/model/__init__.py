"""The network, its loss, and the directory that holds a trained one."""
