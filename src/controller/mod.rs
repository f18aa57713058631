//! F6: observe, drive actions, balance.
