//! `openapi`.
