"""From a loader's batches to a `tf.data.Dataset`: the only home of tf.data.

It does not know `VideoLoader`, which hands it an `ElementStream`.
"""
