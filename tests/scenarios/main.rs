//! Whole-system tests, by level.

mod parts;
