//! The game-server binary.

fn main() {}
