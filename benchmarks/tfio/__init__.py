"""An environment of its own for tensorflow-io, which needs an older TensorFlow."""
