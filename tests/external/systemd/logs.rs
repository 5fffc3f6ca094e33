//! Log files, and the real logrotate.
