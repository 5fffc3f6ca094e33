//! peace
