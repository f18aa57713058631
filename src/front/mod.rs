//! F7: grpc, http admin. Doors hold no semantics.
