//! F2: bytes <-> types, pure.
