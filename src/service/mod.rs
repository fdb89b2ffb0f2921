//! The service: application servers on one side, their clients on the other.
