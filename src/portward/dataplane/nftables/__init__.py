"""The dataplane of router ports: one nftables table in each router namespace, changed under traffic."""
