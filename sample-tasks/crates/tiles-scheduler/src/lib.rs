//! The scheduler of the tiled picture as a component: everything is in `tiles.rs`, which native programs include as well.

mod tiles;

holm_sdk::export_scheduler!(tiles::Tiles);
