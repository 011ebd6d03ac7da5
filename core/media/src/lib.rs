//! Segments in, playable audio out.
