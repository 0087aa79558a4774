//! Repositories, hybrid memory-first storage, archive and state-machine persistence.
