//! A network under virtual time.
