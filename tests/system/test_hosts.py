"""Clusters of several hosts."""

import sys

import pytest

from tests.support.hosts import HostCluster

pytestmark = pytest.mark.slow

_WHERE = """
import os, ray
ray.init(log_to_driver=False, logging_level="ERROR")

@ray.remote
def where():
    return os.uname().nodename, ray.util.get_node_ip_address(), os.listdir("/tmp/home")

print(sorted(ray.get([where.options(label_selector={"ray.io/node-id": node["NodeID"]}).remote()
                      for node in ray.nodes() if "CPU" in node["Resources"]])))
"""


def test_hosts_are_hosts_of_their_own(three_hosts: HostCluster) -> None:
    done = three_hosts.run(sys.executable, "-c", _WHERE)
    assert done.out.strip() == "[('h2', '10.77.0.2', []), ('h3', '10.77.0.3', [])]", done
