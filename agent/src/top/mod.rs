//! `resumetry top`: what is on the screen. The model and all that draws it are pure; `terminal` is the
//! terminal, `viewer` the loop that brings both together, `messages` where warnings wait meanwhile.

mod columns;
mod detail;
mod draw;
pub mod figures;
#[cfg(test)]
mod fixture;
mod format;
mod header;
mod help;
mod keys;
pub mod messages;
pub mod model;
mod rates;
mod table;
pub mod terminal;
mod theme;
pub mod viewer;
