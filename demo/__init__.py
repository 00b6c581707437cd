"""The demo: Portward's main job on real packets, told with the unchanged ``openstack`` client."""
