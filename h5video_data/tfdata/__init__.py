"""The only home of tf.data."""
