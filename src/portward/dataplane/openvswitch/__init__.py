"""The dataplane of VM ports: an OpenFlow pipeline of our own on the integration bridge of Open vSwitch."""
