//! Sealed batches, segment objects and packets objects.
