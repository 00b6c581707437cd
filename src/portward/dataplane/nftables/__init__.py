"""The dataplane of router ports: one nftables table in each router namespace, changed under traffic."""

from portward.dataplane.nftables.driver import NftablesDataplane
from portward.dataplane.nftables.namespace import Step

__all__ = ["NftablesDataplane", "Step"]
