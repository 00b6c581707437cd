"""An Open vSwitch bridge at packet level, without a switch: what comes out of it for the flows of a pipeline."""

from fake_switch.frame import Frame, frame_of
from fake_switch.switch import FakeSwitch, PipelineError, RefusedFlow

__all__ = ["FakeSwitch", "Frame", "PipelineError", "RefusedFlow", "frame_of"]
