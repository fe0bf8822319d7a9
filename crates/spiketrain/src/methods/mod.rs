//! One paper, one file.
