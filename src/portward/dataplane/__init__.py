"""Drivers that turn the desired state of a host into kernel or switch state, behind one protocol."""
